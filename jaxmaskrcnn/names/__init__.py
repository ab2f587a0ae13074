"""Names of arrays and of settings in files of other libraries: tables between them and the ones here."""

"""Names of arrays in files of other libraries: tables between them and the paths here."""

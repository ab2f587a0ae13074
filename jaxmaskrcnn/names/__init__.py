"""Tables that map names of arrays and settings in other libraries' files to the ones here."""

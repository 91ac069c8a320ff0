"""The `adawm` command: arguments in, tables and JSON out."""

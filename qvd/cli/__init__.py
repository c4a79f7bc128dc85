"""The command line C{qvd}: a client of the administration API, whose description says which commands there are."""

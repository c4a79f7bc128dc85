``qvd`` is a command line for administrators and their scripts. Each operation of the administration API is a command:
lists with filters, order and columns as a table, JSON, CSV or YAML; the same for many objects by a filter, with a preview;
``--wait``; events as they happen; a shell with completion and history. See docs/cli.md.

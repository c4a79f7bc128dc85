The audit trail is exported as NDJSON or CSV, with the filters of its list (``POST /api/v1/log/export.ndjson``,
``/log/export.csv``), and the administration daemon takes away by itself what is older than it is kept.

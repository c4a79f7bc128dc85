Configuration, custom properties, views, statistics and the audit trail are administered over the API. A VM has the
properties of its OSF, its image, its user and its own, the later winning, for placement rules too. `qvd-db verify-audit`
finds rows of the audit trail that were edited, deleted or inserted; `qvd-db purge-audit` takes away what is older than
it is kept. See `docs/configuration.md`.

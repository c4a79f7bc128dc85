An administrator with `config.wat.` sets language and page size for all administrators of the own tenant: `PATCH /api/v1/tenant/settings`.

Administration: what takes long is a job with progress and a log, which can be cancelled and tried again, and which
survives the service that runs it. Operations on many objects at once, with a rehearsal. Nodes can be drained,
decommissioned and declared dead, and tenants emptied.

``qvd-db init`` makes a first administrator over all tenants with a one-time secret, and ``qvd-db admin-secret`` lets an administrator in again who cannot log in.

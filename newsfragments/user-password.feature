Administrators set the password of a user: `PUT /api/v1/users/{id}/password`.

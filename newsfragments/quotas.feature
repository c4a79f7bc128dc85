Tenants have quotas (``PUT /api/v1/tenants/{id}/quotas``): users, VMs, and VMs that run at a time, which the database sees to; ``/usage`` tells what they have.

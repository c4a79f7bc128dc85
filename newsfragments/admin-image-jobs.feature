Administration: imports of disk images, and what follows an upload, are jobs: with progress, cancellable, and going on
where they were after a restart of the service. Many VMs are started by one operation, with a rehearsal. `/metrics` has
the number of jobs that wait.

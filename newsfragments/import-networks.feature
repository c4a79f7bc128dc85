`admin.import.networks` names private networks that disk images may be fetched from by their URL.

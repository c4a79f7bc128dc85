Events tell of the audit trail (`log`), of definitions of properties (`properties`) and of the configuration (`config`), too.

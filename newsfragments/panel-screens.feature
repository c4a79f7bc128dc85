The web panel shows first what is wrong now, with charts of the farm; sends disk images with progress and goes on after
an interruption; moves tags and publishes with the affected VMs shown before; edits permissions as a tree that tells
granted, inherited and excluded ones; and has screens for configuration, jobs, the audit log and the own account, with a
second factor set up by a picture.

The administration API has OSFs and disk images: uploads that can be resumed, imports from a staging folder and from URLs, publication, roll-back, tags and the VMs that they affect.

"""Start the processes of a distributed run, and name the ways in which they exchange gradients."""

SINGLE = ("local", "device")
DISTRIBUTED = ("dist_sync", "dist_device_sync")
HOROVOD = "horovod"
KVSTORES = (*SINGLE, *DISTRIBUTED, HOROVOD)

"""Training in several processes: how they are started, and how they meet."""

SINGLE = ("local", "device")
DISTRIBUTED = ("dist_sync", "dist_device_sync")
HOROVOD = "horovod"
KVSTORES = (*SINGLE, *DISTRIBUTED, HOROVOD)

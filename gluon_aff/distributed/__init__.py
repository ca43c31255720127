"""Training in several processes: what they tell each other, and how they are started.

`cluster` needs MXNet and is imported from its module, so that the launcher does not.
"""

SINGLE = ("local", "device")
DISTRIBUTED = ("dist_sync", "dist_device_sync")
HOROVOD = "horovod"
KVSTORES = (*SINGLE, *DISTRIBUTED, HOROVOD)

A node unpacks, boots and stops only so many VMs at a time (`hkd.slots.unpack`, `hkd.slots.boot`, `hkd.slots.stop`). Who
has to wait is told the position in the queue, which is fair between tenants; stops never wait behind boots.
A VM that fails three times in a row is not started again before a pause, from 10 s doubling to 300 s. Whoever tries is
told what failed, how often, and when the next try is allowed; `qvd-node reset VM` ends the pause.

"""An engine for virtual machines: pools of storage, templates, VMs, transfers and permissions."""

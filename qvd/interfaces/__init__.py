"""Ports: what services ask of the database, the hypervisor, an authenticator, a guest, and one another."""

from __future__ import annotations

from qvd.interfaces.accounts import IHasher, IPasswordAuthenticator, ITokenAuthenticator, IUsers
from qvd.interfaces.daemon import IDeadline, INodeStatus, ISessionKiller
from qvd.interfaces.database import IBells, IDatabase, ITransaction, Parameters, PoolLoad, Row
from qvd.interfaces.desktops import IImages, ISessions, IVMs
from qvd.interfaces.garbage import IGarbage, IStorage
from qvd.interfaces.guests import IDriver, IGuest, IGuestDialer
from qvd.interfaces.machines import IAddressPlans, IDhcp, INetwork, IRoots
from qvd.interfaces.nodes import IExpiry, IHostImages, IHosts, IMessages, IOwnership

__all__ = [
    "IAddressPlans",
    "IBells",
    "IDatabase",
    "IDeadline",
    "IDhcp",
    "IDriver",
    "IExpiry",
    "IGarbage",
    "IGuest",
    "IGuestDialer",
    "IHasher",
    "IHostImages",
    "IHosts",
    "IImages",
    "IMessages",
    "INetwork",
    "INodeStatus",
    "IOwnership",
    "IPasswordAuthenticator",
    "IRoots",
    "ISessionKiller",
    "ISessions",
    "IStorage",
    "ITokenAuthenticator",
    "ITransaction",
    "IUsers",
    "IVMs",
    "Parameters",
    "PoolLoad",
    "Row",
]

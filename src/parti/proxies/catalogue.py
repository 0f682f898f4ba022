"""The built-in proxies, by name; loaded when they are first used."""

from __future__ import annotations

__all__ = ["PROXIES", "TITLES"]

PROXIES: dict[str, str] = {
    "params": "parti.proxies.params:Params",
    "macs": "parti.proxies.macs:Macs",
    "l2_norm": "parti.proxies.l2_norm:L2Norm",
    "grad_norm": "parti.proxies.grad_norm:GradNorm",
    "plain": "parti.proxies.plain:Plain",
    "snip": "parti.proxies.snip:Snip",
    "grasp": "parti.proxies.grasp:Grasp",
    "fisher": "parti.proxies.fisher:Fisher",
    "synflow": "parti.proxies.synflow:SynFlow",
    "jacov": "parti.proxies.jacov:Jacov",
    "epe_nas": "parti.proxies.epe_nas:EpeNas",
    "naswot": "parti.proxies.naswot:Naswot",
    "swap": "parti.proxies.swap:Swap",
    "meco": "parti.proxies.meco:Meco",
    "zico": "parti.proxies.zico:ZiCo",
    "zen": "parti.proxies.zen:Zen",
    "ntk": "parti.proxies.te_nas:NtkCondition",
    "linear_regions": "parti.proxies.te_nas:LinearRegions",
    "az_expressivity": "parti.proxies.az_nas:Expressivity",
    "az_progressivity": "parti.proxies.az_nas:Progressivity",
    "az_trainability": "parti.proxies.az_nas:Trainability",
}

TITLES: dict[str, str] = {
    "l2_norm": "weight norm",
    "grad_norm": "gradient norm",
    "plain": "gradient × weight",
    "snip": "SNIP",
    "grasp": "GraSP",
    "fisher": "Fisher",
    "synflow": "SynFlow",
    "jacov": "Jacobian covariance",
    "epe_nas": "EPE-NAS",
    "naswot": "NASWOT",
    "swap": "SWAP",
    "meco": "MeCo",
    "zico": "ZiCo",
    "zen": "Zen-score",
    "ntk": "NTK condition number",
    "linear_regions": "linear regions",
    "az_expressivity": "AZ-NAS expressivity",
    "az_progressivity": "AZ-NAS progressivity",
    "az_trainability": "AZ-NAS trainability",
}
"""What people call those that are no counts."""

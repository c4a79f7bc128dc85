# -*- test-case-name: tests.unit.test_model_explanation -*-
"""What is told to an administrator who asks why a VM is in its state."""

from __future__ import annotations

import math

from qvd.model.placement_words import describe
from qvd.model.records import VM, Explanation
from qvd.model.vm import VMState


def pause(vm: VM) -> str:
    """How long it has to wait, where it has to."""
    if not vm.retry_in:
        return ""
    return f": may be started in {math.ceil(vm.retry_in)} s, or at once after qvd-node reset {vm.vm_id}"


def explain(known: Explanation, figures: bool = True) -> list[str]:
    """Line by line.

    @param figures: tell what the nodes have, which is not everybody's to know.
    """
    vm = known.vm
    place = f"on {known.host}" if known.host else "on no node"
    taken_up = "taken up" if vm.generation == vm.acked else "not taken up by its node yet"
    lines = [
        f"VM {vm.vm_id} {vm.name!r} of {vm.login}@{known.tenant}{', blocked' if vm.blocked else ''}",
        f"  is {vm.state.value} {place} since {vm.since:%Y-%m-%d %H:%M:%S} UTC{f': {vm.detail}' if vm.detail else ''}",
        f"  is wanted {vm.desired.value}: order {vm.generation}, {taken_up}",
        f"  {'somebody is' if vm.session_id else 'nobody is'} connected",
    ]
    if vm.last_error and vm.state is not VMState.RUNNING:
        lines.append(f"  ended with: {vm.last_error}")
    if vm.failures:
        lines.append(f"  has failed {vm.failures} time{'s' if vm.failures > 1 else ''} in a row{pause(vm)}")
    if known.placement is None:
        lines.append("  was never placed on a node")
    else:
        lines.append("  last placement:")
        lines += [f"    {line}" for line in describe(known.placement, figures)]
    return lines

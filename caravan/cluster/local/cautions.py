"""What Nomad warns of in a job that it takes, in its words. Pure."""

from collections.abc import Iterator

from caravan.cluster.local.words import JsonDict, go_quote, grouped


def warnings_of(job: JsonDict) -> str:
    """What Nomad warns of, as one text; empty when there is nothing."""
    found: list[str] = []
    for group in job["TaskGroups"]:
        inner = list(_group_warnings(group))
        if inner:
            found.append(f"Group {go_quote(group['Name'])} has warnings: {grouped(inner)}")
    for group in job["TaskGroups"]:
        found += _unhurried(group)
    updates = [g["Update"] for g in job["TaskGroups"] if g["Update"]]
    if any(u["AutoPromote"] for u in updates) and any(u["Canary"] and not u["AutoPromote"] for u in updates):
        found.append("auto_promote must be true for all groups to enable automatic promotion")
    if (job["Periodic"] or {}).get("Spec"):
        found.append("cron is deprecated and may be removed in a future release. Use crons instead")
    found += [
        f'Memory oversubscription is not enabled; Task "{group["Name"]}.{task["Name"]}" memory_max value will be '
        "ignored. Update the Scheduler Configuration to allow oversubscription."
        for group in job["TaskGroups"]
        for task in group["Tasks"]
        if task["Resources"]["MemoryMaxMB"]
    ]
    if not found:
        return ""
    head = "1 warning:" if len(found) == 1 else f"{len(found)} warnings:"
    return head + "\n\n* " + "\n* ".join(found)


def _unhurried(group: JsonDict) -> Iterator[str]:
    """Services whose tasks end before those who use them can know."""
    name, referred, of_group = go_quote(group["Name"] or ""), set(), False
    for service in group["Services"] or []:
        if service.get("TaskName"):
            referred.add(service["TaskName"])
        else:
            of_group = True
    delayed = False
    for task in group["Tasks"]:
        title = go_quote(task["Name"])
        if task["Name"] in referred and not task["ShutdownDelay"]:
            told = "in a service definition, but the task has no shutdown_delay set"
            yield f"group {name} references task {title} {told}"
        if task["ShutdownDelay"]:
            delayed = True
        elif task["Services"]:
            yield f"task {title} in group {name} defines services, but has no shutdown_delay set"
    if of_group and not group["ShutdownDelay"] and not delayed:
        told = "but neither the group nor any of its tasks have shutdown_delay set"
        yield f"group {name} defines services, {told}"


def _identity_warnings(identity: JsonDict) -> Iterator[str]:
    audience = identity.get("Audience") or []
    if not audience:
        yield "identities without an audience are insecure"
    elif len(audience) > 1:
        yield "while multiple audiences is allowed, it is more secure to use 1 audience per identity"
    if identity.get("Name") not in (None, "", "default") and not identity.get("TTL"):
        yield "identities without an expiration are insecure"
    if identity.get("Env") and identity.get("ChangeMode") != "restart":
        yield 'using env=true without change_mode="restart" may result in task not getting updated identity'


def _group_warnings(group: JsonDict) -> Iterator[str]:
    update, count = group["Update"] or {}, group["Count"]
    if count > 1 and (update.get("MaxParallel") or 0) > count:
        yield (
            f"Update max parallel count is greater than task group count ({update['MaxParallel']} > {count}). A "
            "destructive change would result in the simultaneous replacement of all allocations."
        )
    if group["MaxClientDisconnect"] is not None:
        yield "MaxClientDisconnect is deprecated and ignored in favor of Disconnect.LostAfter"
    if group["StopAfterClientDisconnect"] is not None:
        yield "StopAfterClientDisconnect is deprecated and ignored favor of Disconnect.StopOnClientAfter"
    if group["PreventRescheduleOnLost"]:
        yield "PreventRescheduleOnLost is deprecated and ignored in favor of Disconnect.Replace"
    if ((group["Networks"] or [{}])[0].get("MBits") or 0) > 0:
        yield "mbits has been deprecated as of Nomad 0.12.0. Please remove mbits from the network block"
    for task in group["Tasks"]:
        inner = list(_task_warnings(task))
        if inner:
            yield f"Task {go_quote(task['Name'])} has warnings: {grouped(inner)}"


def _task_warnings(task: JsonDict) -> Iterator[str]:
    if task["Resources"]["IOPS"]:
        yield "IOPS has been deprecated as of Nomad 0.9.0. Please remove IOPS from resource block."
    if task["Resources"]["Networks"]:
        yield (
            "task network resources have been deprecated as of Nomad 0.12.0. Please configure networking via group "
            "network block."
        )
    for number, template in enumerate(task["Templates"] or []):
        if template["VaultGrace"]:
            yield (
                f"Template[{number}] VaultGrace has been deprecated as of Nomad 0.11 and ignored since Vault 0.5. "
                "Please remove VaultGrace / vault_grace from template block."
            )
    for identity in task["Identities"] or []:
        inner = [f"Identity[{identity.get('Name') or ''}] {told}" for told in _identity_warnings(identity)]
        if inner:
            yield grouped(inner)

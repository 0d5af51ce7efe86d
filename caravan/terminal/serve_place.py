"""One model server's place on a cluster: what is asked, deployed, followed, said and ended there by `serve-model`.

What to serve is decided in the planning room, and what happens on the cluster in the agent's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from caravan.terminal.text import one_line
from caravan.values.errors import ClusterError, NeedsPerson

if TYPE_CHECKING:
    from pathlib import Path

    from caravan.agent.serving import Served
    from caravan.planning.serving_money import Price
    from caravan.planning.serving_plan import Decided, Said
    from caravan.ports import Cluster
    from caravan.runs.served import ServedFolder
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.job import JobSpec, RegisteredJob
    from caravan.values.run import RunRequest
    from caravan.values.serving import ServePlan

_QUEUE_S: Final = 86_400.0  # a place may come free within a day; Ctrl-C leaves earlier


class Place:
    """One server's place: cluster, namespace and name."""

    def __init__(
        self,
        wiring: Wiring,
        terminal: Terminal,
        cluster: str | None,
        namespace: str | None,
        name: str,
        *,
        as_json: bool,
    ) -> None:
        from caravan.planning.serving_job import check_name
        from caravan.runs.served import ServedFolder
        from caravan.values.run import RunRequest

        target = wiring.target(cluster)
        self._wiring, self._terminal, self._as_json = wiring, terminal, as_json
        self._name, self._namespace = check_name(name), namespace or target.namespace
        self._request: RunRequest = RunRequest(
            prompt="", source="", cluster=target.address, namespace=self._namespace, profile=target.profile
        )
        self._folder: ServedFolder = ServedFolder(wiring.home, target.address, self._namespace, name)

    # --- deploying ------------------------------------------------------------------------------------------------

    def serve(
        self, said: Said, *, new_key: bool, budget: float | None, dry_run: bool, yes: bool, key_file: Path | None
    ) -> int:
        """Deploy what was said, unless that is there already, and follow it until it is healthy."""
        from contextlib import ExitStack

        from caravan.agent import serving
        from caravan.planning.serving_money import Price
        from caravan.planning.serving_plan import decide

        wiring = self._wiring
        cluster = wiring.cluster(self._request)
        site = wiring.site(self._request)
        before = serving.there(cluster, self._name, self._namespace)
        decided = decide(said, cluster.facts(), wiring.prices(self._request), site.profile if site else None)
        plan = decided.plan.model_copy(update={"namespace": self._namespace})
        price = Price(plan.usd_per_hour)
        with ExitStack() as held:
            if not dry_run:
                held.enter_context(self._folder.lock())
            key, plan = self._keyed(plan, cluster, before, new_key=new_key)
            spec, hcl, job = self._proved(plan, cluster)
            if not self._as_json:
                from caravan.terminal.serve_view import show_choice

                show_choice(self._terminal, decided, price)
            waits = serving.waits_for(job, cluster)
            if dry_run:
                return self._shown(decided, price, hcl, waits)
            if self._same(spec, before):
                self._say("It is served like that already: nothing is changed.")
            else:
                self._approved(plan, price, before, waits, budget=budget, yes=yes)
                self._deploy(spec, hcl, job, cluster, before, key)
        if key_file is not None:
            self._folder.give_key(key_file)
        return self._follow(decided, price, cluster, plan, first=not serving.lives(before))

    def _keyed(
        self, plan: ServePlan, cluster: Cluster, before: RegisteredJob | None, *, new_key: bool
    ) -> tuple[str | None, ServePlan]:
        """The key to write, None where the one that is in force stays; and the plan with what tells them apart."""
        from caravan.agent import serving
        from caravan.planning.serving_job import META_KEY

        own = None if new_key else self._folder.key()
        # The key of a server that was ended may be gone or overwritten, which its name does not show.
        keeps = not new_key and serving.lives(before) and serving.has_key(cluster, self._name, self._namespace)
        told = before.meta.get(META_KEY, "") if before is not None else ""
        if keeps and told and (own is None or serving.mark_of(own) == told):
            return None, plan.model_copy(update={"key_mark": told})
        key = own or serving.new_key()
        return key, plan.model_copy(update={"key_mark": serving.mark_of(key)})

    def _proved(self, plan: ServePlan, cluster: Cluster) -> tuple[JobSpec, str, dict[str, Json]]:
        from caravan import TEMPLATES
        from caravan.agent import serving
        from caravan.planning.serving_job import serve_job

        spec = serve_job(plan)
        hcl, job = serving.prove(spec, cluster, self._wiring.policies(self._request), TEMPLATES)
        return spec, hcl, job

    def _same(self, spec: JobSpec, before: RegisteredJob | None) -> bool:
        from caravan.agent.serving import lives
        from caravan.values.job import META_SHA

        return before is not None and lives(before) and before.spec_sha256 == spec.meta[META_SHA]

    def _approved(
        self,
        plan: ServePlan,
        price: Price,
        before: RegisteredJob | None,
        waits: tuple[str, ...],
        *,
        budget: float | None,
        yes: bool,
    ) -> None:
        """Ask, unless `--yes` suffices. Raises NeedsPerson, or UsageError for what no limit allows."""
        from caravan.agent.serving import lives
        from caravan.planning.serving_money import refused
        from caravan.terminal.dialogue import confirm

        self._within_law(price)
        soft, hard = self._wiring.limits_usd(self._request)
        why = refused(price, soft_usd=soft, hard_usd=hard, budget_usd=budget, yes=yes)
        if why:
            raise NeedsPerson(f"{why}.", hint="Give --budget USD for a day, or fewer GPUs.")
        for line in waits:
            self._say(f"It has no place now: {one_line(line)}. It waits until it has one.")
        if yes:
            return
        if not self._terminal.interactive:
            raise NeedsPerson(f"Serving a model needs approval. {price.line()}", hint="Allow it with --yes.")
        asked = f"Replace what {plan.name} serves now; requests under way are lost?" if lives(before) else "Deploy it?"
        if not confirm(self._terminal, asked):
            raise NeedsPerson("Nothing was deployed.", hint="")

    def _within_law(self, price: Price) -> None:
        from caravan.planning.serving_money import money_denials
        from caravan.values.policy import Spending

        spent = Spending(
            day_usd=self._spent("day"), month_usd=self._spent("month"), user_month_usd=self._spent("month", own=True)
        )
        found = money_denials(price, spent, self._wiring.policies(self._request), self._wiring.clock.now())
        if found:
            raise ClusterError(" ".join(d.line() for d in found[:3]), hint="Ask whoever administers the policy.")

    def _spent(self, span: Literal["day", "month"], *, own: bool = False) -> float:
        """What all runs, or the user's own, have cost today or this month, and what running ones may still."""
        from caravan.values.spending import SharedLimit

        cap = SharedLimit(usd=0, span=span, per_user=own, name="").cap(self._wiring.user, self._wiring.clock.now())
        (room,) = self._wiring.store().rooms("", (cap,))
        return room.spent_usd + room.reserved_usd

    def _deploy(
        self,
        spec: JobSpec,
        hcl: str,
        job: dict[str, Json],
        cluster: Cluster,
        before: RegisteredJob | None,
        key: str | None,
    ) -> None:
        """The intent first, then the key, then the job: whatever breaks off in between, the same command goes on."""
        from caravan.agent import serving
        from caravan.values.job import META_SHA

        self._folder.save_job(hcl)
        intent: dict[str, Json] = {"job_id": spec.id, "namespace": self._namespace, "sha256": spec.meta[META_SHA]}
        self._folder.intend({**intent, "state": "intended"})
        if key is not None:
            self._folder.save_key(key)
            serving.write_key(cluster, self._name, self._namespace, key)
        serving.register(cluster, spec, job, before)
        self._folder.intend({**intent, "state": "registered"})
        self._say(f"Deployed as the job {spec.id}.")

    # --- following ------------------------------------------------------------------------------------------------

    def _follow(self, decided: Decided, price: Price, cluster: Cluster, plan: ServePlan, *, first: bool) -> int:
        from caravan.agent import serving
        from caravan.terminal.serve_view import document, progress_line, state_document

        def told(seen: Served) -> None:
            self._terminal.err(f"  {progress_line(seen)}")

        try:
            seen = serving.follow(
                cluster,
                self._name,
                self._namespace,
                self._wiring.clock,
                queue_s=_QUEUE_S,
                start_s=plan.options.start_s,
                told=told,
            )
        except KeyboardInterrupt:
            self._terminal.err("It goes on starting: serve-model --status shows it, serve-model --stop ends it.")
            raise
        ended = ""
        if not seen.healthy and first:
            cluster.stop(self._name, self._namespace)
            ended = " It was stopped, because it would only start again and again."
        if self._as_json:
            found = {**document(plan, price, decided), **state_document(seen), **self._where(seen, plan.served_name)}
            self._terminal.document({**found, "exit_code": 0 if seen.healthy else 1})
        else:
            self._show(seen, plan.served_name, ended)
        return 0 if seen.healthy else 1

    def _show(self, seen: Served, name: str, ended: str = "") -> None:
        from caravan.terminal.serve_view import environment, show_environment, trouble

        if seen.healthy:
            self._terminal.out(f"It is healthy at {one_line(seen.url)} on {one_line(seen.node)}.")
            show_environment(self._terminal, environment(seen.url, name, self._key_file()))
            return
        self._terminal.out(f"It is not healthy: {trouble(seen)}{ended}")
        if seen.known is not None:
            self._terminal.out(seen.known.advice)

    def _where(self, seen: Served, name: str) -> dict[str, Json]:
        from caravan.terminal.serve_view import environment

        file = self._key_file()
        variables = environment(seen.url, name, file) if seen.healthy else {}
        return {"key_file": str(file) if file else None, "environment": dict(variables)}

    def _key_file(self) -> Path | None:
        return self._folder.key_file if self._folder.key() is not None else None

    def _shown(self, decided: Decided, price: Price, hcl: str, waits: tuple[str, ...]) -> int:
        """A dry run: the choice and the job, and whether it has a place now."""
        from caravan.terminal.serve_view import document

        if self._as_json:
            found = document(decided.plan, price, decided)
            self._terminal.document({**found, "hcl": hcl, "waits_for": list(waits), "exit_code": 0})
            return 0
        self._terminal.out("")
        self._terminal.raw(hcl)
        for line in waits:
            self._terminal.out(f"It would have no place now: {one_line(line)}.")
        self._terminal.out("Nothing was deployed (--dry-run).")
        return 0

    # --- looking and ending ---------------------------------------------------------------------------------------

    def _reached(self) -> Cluster | None:
        """The cluster; None for the built-in one that does not run: it is not started to look at nothing."""
        if self._request.cluster == "local" and self._wiring.local_cluster.status() is None:
            return None
        return self._wiring.cluster(self._request)

    def status(self, key_file: Path | None) -> int:
        """Say how the server stands."""
        from caravan.agent import serving
        from caravan.planning.serving_job import META_CONTEXT, META_NAME, META_SERVES
        from caravan.terminal.serve_view import progress_line, state_document

        if key_file is not None:
            self._folder.give_key(key_file)
        cluster = self._reached()
        found = serving.there(cluster, self._name, self._namespace) if cluster is not None else None
        if cluster is None or found is None:
            if self._as_json:
                self._terminal.document({"name": self._name, "healthy": False, "phase": "gone", "exit_code": 1})
            else:
                self._terminal.out(f"No model is served as {self._name}: `main.py serve-model` deploys one.")
            return 1
        seen = serving.look(cluster, self._name, self._namespace)
        name = found.meta.get(META_NAME, "")
        code = 0 if seen.healthy else 1
        if self._as_json:
            served: dict[str, Json] = {"name": self._name, "namespace": self._namespace, "served_name": name}
            served |= {"model": found.meta[META_SERVES], "context": found.meta.get(META_CONTEXT)}
            self._terminal.document({**served, **state_document(seen), **self._where(seen, name), "exit_code": code})
            return code
        self._terminal.out(f"{self._name} serves {one_line(name)}: {progress_line(seen)}.")
        self._show(seen, name)
        return code

    def stop(self, *, forget_key: bool) -> int:
        """End the server."""
        from caravan.agent import serving

        cluster = self._reached()
        ended = cluster is not None and serving.stop(cluster, self._name, self._namespace, free_key=forget_key)
        if forget_key:
            self._folder.forget_key()
        text = f"The server {self._name} was told to end." if ended else f"No model was served as {self._name}."
        if self._as_json:
            self._terminal.document({"name": self._name, "stopped": ended, "exit_code": 0})
        else:
            self._terminal.out(text + (" Its API key is gone." if forget_key else ""))
        return 0

    def _say(self, text: str) -> None:
        if self._as_json:
            self._terminal.err(text)
        else:
            self._terminal.out(text)

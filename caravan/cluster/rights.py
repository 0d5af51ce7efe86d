"""Every call that Caravan makes to Nomad and the ACL right that it needs: data, for the manual and the policy.

The rights are Nomad's own documentation's, of its HTTP API. Must not know what the calls are for beyond a few words.
"""

from typing import Final, NamedTuple


class Call(NamedTuple):
    """A call: method, path (`:id` stands for one part, `:path` for the rest), right, use, and what goes without it.

    `right` is a capability of the namespace (`submit-job`), a block's policy (`node read`), `variables read`, or empty
    where any token will do. `without` empty: nothing goes without the call.
    """

    method: str
    path: str
    right: str
    use: str
    without: str = ""


CALLS: Final = (
    Call("GET", "/v1/nodes", "node read", "the inventory"),
    Call("GET", "/v1/node/:id", "node read", "the inventory"),
    Call("POST", "/v1/jobs/parse", "parse-job", "HCL to JSON"),
    Call("PUT", "/v1/validate/job", "read-job", "validation"),
    Call("PUT", "/v1/job/:id/plan", "submit-job", "the dry run"),
    Call("PUT", "/v1/jobs", "submit-job", "the registration"),
    Call("DELETE", "/v1/job/:id", "submit-job", "to stop a job"),
    Call("GET", "/v1/job/:id", "read-job", "the job's state"),
    Call("GET", "/v1/job/:id/allocations", "read-job", "the job's state"),
    Call("GET", "/v1/job/:id/evaluations", "read-job", "why it waits"),
    Call("GET", "/v1/allocation/:id", "read-job", "to follow a log"),
    Call("GET", "/v1/service/:id", "read-job", "where a model is served"),
    Call("GET", "/v1/client/allocation/:id/checks", "read-job", "whether a served model is healthy"),
    Call("GET", "/v1/client/fs/logs/:id", "read-logs", "logs"),
    Call("GET", "/v1/client/fs/cat/:id", "read-fs", "the result file"),
    Call("GET", "/v1/client/fs/readat/:id", "read-fs", "outputs"),
    Call("GET", "/v1/client/fs/ls/:id", "read-fs", "outputs"),
    Call("GET", "/v1/event/stream", "read-job", "changes at once", "blocking queries instead"),
    Call("GET", "/v1/agent/self", "agent read", "the version", "the version of the nodes"),
    Call(
        "GET", "/v1/volumes", "csi-list-volume", "which CSI volumes there are", "they are not known before a job runs"
    ),
    Call("GET", "/v1/var/:path", "variables read", "whether a job's secrets are there", "not known before a job runs"),
    Call("PUT", "/v1/var/:path", "variables write", "to write a secret that you offered", "you write it yourself"),
    Call("DELETE", "/v1/var/:path", "variables destroy", "what an agent on the cluster was lent", "it stays, emptied"),
    Call("GET", "/v1/acl/token/self", "", "the token's name and expiry"),
    Call("GET", "/v1/status/leader", "", "`doctor`"),
    Call("GET", "/v1/regions", "", "`doctor`"),
    Call("GET", "/v1/namespaces", "", "`doctor`"),
    Call("GET", "/v1/allocations", "read-job", "`doctor`"),
    Call("GET", "/v1/node/pools", "node_pool read", "`doctor`", "pools are taken from the nodes"),
    Call(
        "GET",
        "/v1/operator/scheduler/configuration",
        "operator read",
        "`doctor`",
        "whether memory can be oversubscribed is not known",
    ),
)
"""Grouped by use. A test holds it against the calls that the client makes, and the policy against it."""

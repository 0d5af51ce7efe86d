"""Signs in what a hub of models and data sets answers, and in what its clients say of names. Only data.

A hub that tells nobody which private repositories exist answers 401 to a name that is none: without a word on gates a
401 is a name. Who is no name of a repository is a path on the disk that is not there.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_NAME: Final = _F.HUB_NOT_FOUND
_GATED: Final = _F.HF_GATED_AUTH
_LIMIT: Final = _F.HUB_RATE_LIMITED

_ID: Final = r"[\w.-]+(?:/[\w.-]+)?"
_NO_COUNT: Final = "".join(
    rf"(?<!{word} )" for word in ("step", "Step", "epoch", "Epoch", "batch", "iter", "iteration")
)
"""Before a number that is an answer's code: a progress line counts, and may name the hub's page of a model too."""
_HUB: Final = (
    r"https?://(?:huggingface\.co|hf\.co|hf-mirror\.com|cdn-lfs[\w.-]*\.(?:huggingface\.co|hf\.co)"
    r"|cas-\w+\.xethub\.hf\.co)"
    r"/(?:api/)?(?:models/|datasets/|spaces/)?(?P<repo>(?!api/|whoami)[\w.-]+/[\w.-]*\w|None\b"
    r"|\w[\w.-]*(?=/resolve))?"
)
_AFTER_NAMES: Final = (_F.NETWORK_UNREACHABLE, _F.CHECKPOINT_UNUSABLE, _F.DATA_PATH_MISSING, _F.USER_CODE_BUG)

HUB_SIGNS: Final[tuple[Sign, ...]] = (
    # Too many requests: nothing else that stands beside was ever judged.
    row(rf"{_NO_COUNT}\b429\b.*{_HUB}", _LOG, _LIMIT, 0.97, _NAME, _GATED, _F.NETWORK_UNREACHABLE),
    row(
        rf"{_HUB.replace('repo', 'repo2')}.*(?:\b429\b|(?i:too many requests))"
        r"|\b429\b.{0,60}\bwhoami|\bwhoami\S{0,8}.{0,40}\b429\b|\bHfHubHTTPError: 429\b"
        r"|\b[Ww]e had to rate limit (?:you|your IP)|rate.?limit.{0,60}(?:huggingface|hf\.co|HF_TOKEN)"
        r"|(?:huggingface|hf\.co)\S*.{0,80}rate.?limit",
        _LOG,
        _LIMIT,
        0.97,
        _NAME,
        _GATED,
        _F.NETWORK_UNREACHABLE,
        _F.USER_CODE_BUG,
        _F.CHECKPOINT_UNUSABLE,
    ),
    row(
        r"HTTPError: 429 Client Error: Too Many Requests|HTTP Error 429: Too Many Requests",
        _LOG,
        _LIMIT,
        0.9,
        _NAME,
        _GATED,
        _F.NETWORK_UNREACHABLE,
    ),
    # Gates.
    row(
        rf"\bGatedRepoError\b|\b[Cc]annot access gated repo(?: for url {_HUB})?|\btrying to access a gated repo\b"
        rf"|\bAccess to (?:model|dataset|space) (?P<repo2>{_ID}) is restricted|\bgated dataset on the Hub\b"
        r"|\bawaiting a review from the repo authors|\bnot in the authorized list\b"
        r"|\benable access to public gated repositor"
        r"|\bYour request to access (?:model|dataset) (?P<repo3>\S+) (?:has been rejected|is awaiting)"
        r"|\b[Mm]ust (?:have access to it and )?be authenticated to access it\b|\brepo(?:sitory)? is gated\b",
        _LOG,
        _GATED,
        0.97,
        _NAME,
        _F.NETWORK_UNREACHABLE,
        _F.USER_CODE_BUG,
        _F.CHECKPOINT_UNUSABLE,
        _F.OUTPUT_PERMISSION_DENIED,
    ),
    row(
        r"\bLocalTokenNotFoundError\b|\bToken is required\b.{0,80}no token found|\bno token found\b.{0,80}huggingface"
        r"|\bInvalid (?:credentials in Authorization header|user token)\b"
        r"|\bInvalid token passed\b|\b[Uu]ser [Aa]ccess [Tt]oken .{0,40}(?:expired|invalid)"
        r"|\bYou are not authenticated\b"
        r"|\bThe token .{0,60}(?:is invalid|has expired|is not valid)",
        _LOG,
        _GATED,
        0.92,
        _NAME,
        _F.USER_CODE_BUG,
    ),
    # Also told to who names no repository that there is, without a token: what says so counts more.
    row(r"(?<!remote: )\bInvalid username or password\b", _LOG, _GATED, 0.9, _F.USER_CODE_BUG),
    row(rf"\b[Cc]annot access content at: {_HUB}", _LOG, _GATED, 0.9, _NAME, _F.USER_CODE_BUG),
    row(rf"\b403 (?:Client Error|Forbidden).*{_HUB}", _LOG, _GATED, 0.93, _NAME, _F.USER_CODE_BUG),
    # A repository that the client itself calls gated, or a token that was found good, before a refusal.
    row(
        r"\bgated[\"']?\s*[=:]\s*[\"']?(?:manual|auto|True|true)\b|^(?:The )?[Tt]oken is valid\b|^Login successful",
        _LOG,
        _F.UNKNOWN,
        0.0,
        _NAME,
        mild=True,
    ),
    # Names.
    row(
        rf"\b(?:RepositoryNotFoundError|RepoNotFoundError)\b|\bRepository Not Found for url: {_HUB}",
        _LOG,
        _NAME,
        0.94,
        *_AFTER_NAMES,
        kind="repo",
    ),
    row(
        rf"\bRevisionNotFoundError\b"
        rf"|\bRevision Not Found for url: {_HUB}",
        _LOG,
        _NAME,
        0.94,
        *_AFTER_NAMES,
        kind="revision",
    ),
    row(
        r"\bis not a valid git identifier \(branch name, tag name or commit id\)",
        _LOG,
        _NAME,
        0.94,
        *_AFTER_NAMES,
        kind="revision",
    ),
    row(
        rf"\b(?:Remote)?EntryNotFoundError: 404\b|\bEntry Not Found for url: {_HUB}"
        rf"|\b404 Client Error: Not Found for url: {_HUB.replace('repo', 'repo2')}",
        _LOG,
        _NAME,
        0.92,
        *_AFTER_NAMES,
        kind="file",
    ),
    row(
        rf"\bOSError: (?P<repo>{_ID}) does not appear to have a file named (?P<path>\S+?)\.? ",
        _LOG,
        _NAME,
        0.9,
        *_AFTER_NAMES,
        kind="file",
    ),
    row(
        r"(?<!\S)(?P<repo>\S++) is not a local folder and is not a valid model identifier",
        _LOG,
        _NAME,
        0.93,
        *_AFTER_NAMES,
        kind="repo",
    ),
    row(
        r"\bHFValidationError: Repo id must .*?: '(?P<path>/[^']*|\.{1,2}/[^']*)'",
        _LOG,
        _NAME,
        0.95,
        *_AFTER_NAMES,
        kind="local",
    ),
    row(r"\bHFValidationError: .*?(?:'(?P<repo>[^']*)')?", _LOG, _NAME, 0.93, *_AFTER_NAMES, kind="repo"),
    row(
        r"\bIncorrect path_or_model_id: '(?P<path>[^']*)'|\bRepo id must be (?:in the form|a string)",
        _LOG,
        _NAME,
        0.95,
        *_AFTER_NAMES,
        kind="local",
    ),
    row(
        r"\bOSError: Can't load (?:the )?(?:tokenizer|config\w*|model|feature extractor"
        r"|image processor|processor|weights)"
        r" (?:for|of) '(?P<repo>[^']+)'",
        _LOG,
        _NAME,
        0.85,
        *_AFTER_NAMES,
        kind="repo",
    ),
    row(rf"{_NO_COUNT}\b401 (?:Client Error|Unauthorized)?.*{_HUB}", _LOG, _NAME, 0.75, kind="repo"),
    row(rf"{_NO_COUNT}\b401 (?:Client Error|Unauthorized)?.*{_HUB}", _LOG, _GATED, 0.73),
    row(
        r"\bDatasetNotFoundError: Dataset (?P<repo3>\w+) not found"
        r"|\bDatasetNotFoundError: .*?'(?P<repo>[^']+)'.*(?:doesn't exist|not found|cannot be accessed)"
        r"|\bCouldn't find '(?P<repo2>[^']+)' on the Hugging Face Hub",
        _LOG,
        _NAME,
        0.94,
        *_AFTER_NAMES,
        _F.DATASET_FORMAT_ERROR,
        kind="repo",
    ),
    row(
        r"\bBuilderConfig '?(?P<value>[^' ]+)'? not found\. Available: (?P<choices>.+)"
        r"|\bConfig name is missing\.",
        _LOG,
        _NAME,
        0.85,
        kind="config",
    ),
    row(
        r"\bUnrecognized model identifier: (?P<repo4>\S+)|\bRepo model (?P<repo>\S+) (?:does not exist|not found)"
        r"|\bModel '?(?P<repo2>[\w./-]+)'? (?:not found|does not exist) (?:on|in) (?:the )?(?:[Hh]ub|Hugging)"
        r"|\bunknown model '(?P<value>[^']+)'|\bNo pretrained (?:weights"
        r"|configuration) .{0,60}'?(?P<repo3>[\w./-]+)'? ",
        _LOG,
        _NAME,
        0.8,
        kind="repo",
    ),
    row(
        r"\bOSError: (?P<path>\.{0,2}/\S+) does not appear to have a file named (?P<file>\S+?)\.? "
        r"|\bUnrecognized model in (?P<path2>\.{0,2}/\S+)\. Should have a `?model_type",
        _LOG,
        _NAME,
        0.95,
        *_AFTER_NAMES,
        _F.PACKAGE_VERSION_CONFLICT,
        kind="local",
    ),
    row(
        r"\b(?:The )?model(?: id)?:? ?(?P<repo>[\w.-]+/[\w.-]+) (?:not found|does not exist)"
        r"|\bCannot find callable (?P<value>\w+) in"
        r" hubconf|^RuntimeError: Unknown model \((?P<value2>[^)]+)\)|\bInvalid pretrained tag \((?P<value3>[^)]+)\)"
        r"|\bModel config for (?P<value4>\S+) not found|\bNotExistError\b"
        r"|\bCannot find the requested files in the (?:disk |local )?cache(?! and outgoing)"
        r"|^RuntimeError: Model (?P<value5>\S+) not found",
        _LOG,
        _NAME,
        0.82,
        _F.USER_CODE_BUG,
        kind="repo",
    ),
    row(
        r"\b401\b.{0,80}/api/whoami|/api/whoami.{0,80}\b401\b|^(?!.*\bwandb\b).*\b403 Forbidden: (?!None\b)"
        r"|\byou don't have the rights to\b"
        r"|\bYou don't have the rights to (?:create|push|access)",
        _LOG,
        _GATED,
        0.92,
        _NAME,
        _F.USER_CODE_BUG,
    ),
    row(
        r"\bHTTP Error 404: Not Found\b",
        _LOG,
        _NAME,
        0.75,
        above=r"hub\.py|download_url_to_file|load_state_dict_from_url|urlretrieve",
        kind="file",
    ),
)

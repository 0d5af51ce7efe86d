"""Signs that a file or directory of data is not there, and of files whose absence is another trouble. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.diagnosis.signs.names import PROGRAMS, TOOLCHAIN
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_DATA: Final = _F.DATA_PATH_MISSING

_ERRNO: Final = (
    r"\bFileNotFoundError: \[Errno 2\] (?:No such file or directory"
    r"|Failed to open local file)[^']*: '(?P<path>[^']+)'"
)
# What the system, the drivers, compilers and libraries keep for themselves.
_NO_DATA: Final = rf"(?!/(?:dev|proc|sys|run)/|[^']*/\.triton/|[^']*/\.cache/|[^']*\.lock'|(?:[^']*/)?(?:{TOOLCHAIN})')"
_WRITES: Final = (
    r"open\([^)]*\)?.*,\s*(?:mode\s*=\s*)?[\"'](?:[wax]b?\+?|[wax]t)[\"']|\b(?:mkdir|makedirs|savefig"
    r"|to_(?:csv|json|parquet|pickle)"
    r"|write_text|write_bytes|save_file|FileHandler)\b|\btorch\.save\(|\bnp\.savez?\w*\(|\b\w+\.save\w*\("
)
# A path is tried from the beginning of a word and as a whole: from each of its letters a long one would take for ever.
_PLACE: Final = r"['\"`(]?(?<![\w.~-])(?>(?P<path>[\w.~-]*+/[\w./~{}@%+=,*?-]*[\w/*]))['\"`)]?"
_GONE: Final = r"(?:does not exist|doesn't exist|not found|is missing|no such file)"

_RAISED: Final = (
    r"^(?:[\w.]+\.)?(?:FileNotFoundError|AssertionError|ValueError|OSError|RuntimeError|NotADirectoryError"
    r"|Exception): "
)
_ANY: Final = r"^(?:\w+\.)*\w*(?:Error|Exception): "
_DATA_FILE: Final = r"\.(?:jsonl?|csv|tsv|txt|parquet|arrow|np[yz]|h5|hdf5|tfrecords?|lmdb|zip|tar|gz|zst)\b"

DATA_SIGNS: Final[tuple[Sign, ...]] = (
    # The job's own copier of the outputs: whoever owns that place has to open it, or another one be named.
    row(
        r"^caravan: the outputs could not be copied to (?P<path>[^\s:]+(?::[^\s:]+)*)(?::|$)",
        _LOG,
        _F.OUTPUT_PERMISSION_DENIED,
        0.95,
        _DATA,
        escalate=True,
    ),
    row(_ERRNO.replace("'(?P", f"'{_NO_DATA}(?P"), _LOG, _DATA, 0.95, above=_WRITES, kind="write"),
    row(_ERRNO.replace("'(?P", f"'{_NO_DATA}(?P"), _LOG, _DATA, 0.92, kind="read"),
    row(r"Cannot save file into a non-existent directory: '(?P<path>[^']+)'", _LOG, _DATA, 0.95, kind="write"),
    row(
        r"\bFileNotFoundError: (?:Unable to find|Couldn't find any data file at) '?(?P<path>[^'\s]+[^'\s.])",
        _LOG,
        _DATA,
        0.95,
        kind="read",
    ),
    row(r"Couldn't find any class folder in (?P<path>\S+[^\s.])", _LOG, _DATA, 0.92, kind="read"),
    row(
        r"\bNotFoundError: (?:\{\{.*?\}\} )?(?P<path>/?[^\s;]+); No such file or directory",
        _LOG,
        _DATA,
        0.95,
        kind="read",
    ),
    row(r"unable to open file: name = '(?P<path>[^']+)', errno = 2\b", _LOG, _DATA, 0.95, kind="read"),
    row(r"\bEmptyDatasetError: The directory at (?P<path>\S+) doesn't contain any data", _LOG, _DATA, 0.9, kind="read"),
    row(r"\bFileNotFoundError: (?:Directory )?(?P<path>\S*/\S+) (?:is )?not found", _LOG, _DATA, 0.92, kind="read"),
    row(r"(?:images|labels) not found.*missing paths? '(?P<path>[^']+)'", _LOG, _DATA, 0.92, kind="read"),
    row(r"\bDataset not found: \S+ \((?P<path>[^)]+)\)", _LOG, _DATA, 0.92, kind="read"),
    row(r"Dataset not found or corrupted", _LOG, _DATA, 0.85, kind="read"),
    row(
        rf"{_RAISED}(?=[^/]*\b(?i:data(?:sets?|_?dir|_?path|_?root|_?file)?|corpus|corpora|train"
        rf"|valid(?:ation)?|test|images?|audio|shards?|samples?)\b"
        rf"|.*{_DATA_FILE})(?!.*\b(?i:config\w*|models?|tokenizer|checkpoints?|weights)\b)[^/]*?{_PLACE}[^/]*{_GONE}",
        _LOG,
        _DATA,
        0.85,
        kind="read",
    ),
    row(
        rf"{_RAISED}.*\b[Nn]o (?:data |input |training )?(?:files?|shards?|images?|samples) "
        rf"(?:were |was )?(?:found|match\w*)[^/]*{_PLACE}",
        _LOG,
        _DATA,
        0.85,
        kind="read",
    ),
    row(r"(?:Path|File|Directory) '(?P<path>[^']+)' does not exist", _LOG, _DATA, 0.92, kind="read"),
    row(
        r"^(?:cat|cp|mv|tar|ls|head|tail|gzip|gunzip|unzip|ln|rsync|wc|sed|awk|grep|zcat): "
        r"(?:[\w ]+ ['‘]?)?(?P<path>[^\s:'’]+)['’]?: "
        r"(?:Cannot open: )?No such file or directory",
        _LOG,
        _DATA,
        0.85,
        kind="read",
    ),
    row(r"\bParent directory (?P<path>\S+) does not exist", _LOG, _DATA, 0.93, _F.USER_CODE_BUG, kind="write"),
    row(
        r"\bDataFilesNotFoundError: .*?(?P<path6>/?[\w.-]*/[\w./-]+)|\b(?:IsA"
        r"|NotA)DirectoryError: \[Errno 2[01]\][^']*'(?P<path7>[^']+)'"
        r"|\bDirectory (?P<path>\S+) is neither a `?Dataset"
        r"|\bCouldn't find a dataset script at (?P<path2>/[^\s,]+)(?!.*Hub)"
        r"|\bFound no valid file for the classes|\bFound 0 (?:files|images"
        r"|videos) in (?:subfolders of: )?(?P<path3>\S*)"
        r"|\bimread_\('(?P<path5>[^']+)'\): can't open",
        _LOG,
        _DATA,
        0.92,
        _F.USER_CODE_BUG,
        kind="read",
    ),
    row(rf"^OSError: {_PLACE} not found", _LOG, _DATA, 0.85, _F.USER_CODE_BUG, kind="read"),
    row(
        r"\bLibsndfileError: Error opening '(?P<path>[^']+)': System error|\bNo (?:labels"
        r"|images) found in (?P<path2>\S*/\S+)"
        r"|\bError loading data from (?P<path3>\S*/\S+):",
        _LOG,
        _DATA,
        0.9,
        _F.USER_CODE_BUG,
        _F.DATASET_FORMAT_ERROR,
        kind="read",
    ),
    row(
        rf"{_ANY}(?!.*\b(?i:config\w*|models?|tokenizer|checkpoints?|ckpt|weights)\b)"
        r"(?:(?:[Tt]he |[Ff]ile |[Pp]ath |[Dd]ataset |[Dd]ata |[Dd]irectory "
        r"|[Ff]older ){0,3}['\"]?(?P<path>(?:/|\.{1,2}/)[\w./-]*\w)['\"]?"
        r" (?:does not exist|doesn't exist|not found|is missing)"
        r"|(?:Could not|Cannot|Can't|Unable to) (?:find|locate) (?:the )?(?:file |data |dataset |directory )?['\"]?"
        r"(?P<path2>/[\w./-]*\w)|(?P<path3>/[\w./-]+): No such file or directory)",
        _LOG,
        _DATA,
        0.82,
        _F.USER_CODE_BUG,
        kind="read",
    ),
    # Stores of objects, and what code says that looked and found nothing.
    row(
        r"\bNoSuch(?:Key|Bucket)\b|\b(?:specified|requested) (?:bucket|key|object|blob) does not exist\b"
        r"|\(404\) when calling the (?:HeadObject|GetObject|ListObjects\w*) operation|\bBlobNotFound\b"
        r"|\bNo such object: (?P<path>\S+)|\bNoSuchBucketError\b|\b404 GET https://storage\.googleapis\.com/",
        _LOG,
        _DATA,
        0.88,
        _F.USER_CODE_BUG,
        kind="read",
    ),
    row(
        r"^(?:[\w.]+\.)?(?:\w*Error|\w*Exception|Error|ERROR|SystemExit)\b:?.{0,40}"
        r"(?!.*\b(?i:config\w*|models?|tokenizer|checkpoints?|ckpt|weights|columns?|module|package)\b)"
        r"(?i:\bno (?:(?:supported|valid|matching|training|train|input|data|image|audio|video|text|parquet"
        r"|jsonl?|csv|tar|arrow)"
        r" ){0,3}(?:data|files?|shards?|images?|samples|examples|records|documents|audio|videos?|tars?|tfrecords?)\b"
        r"|\b(?:could not|cannot|can't|unable to|failed to|couldn't) (?:find|locate|open) (?:any "
        r"|the )?(?:\w+ ){0,3}?(?:data|files?"
        r"|shards?|images?|samples|manifests?|corpus|index|annotations?|split)\b"
        r"|\b(?:data|folder|directory|dir|path|root)\b.{0,80}\b(?:does not|doesn't) (?:contain|have|hold) any\b"
        r"|\bcannot be found at the path\b)"
        r"(?:[^/'\"]{0,60}['\"]?(?P<path>(?:[a-z]\w+:/|\.{0,2})/[\w./{}*-]*[\w*}])?)?",
        _LOG,
        _DATA,
        0.78,
        _F.USER_CODE_BUG,
        _F.TRAINING_CONFIG_INVALID,
        kind="read",
    ),
    row(
        r"^\s*Resource \S*\b(?P<path>[\w-]+)\S* not found\.\s*$"
        r"|\bPlease use the NLTK Downloader to obtain the resource",
        _LOG,
        _DATA,
        0.85,
        _F.USER_CODE_BUG,
        kind="read",
    ),
    row(r"\bAssertion failed\) !_src\.empty\(\)", _LOG, _DATA, 0.75, _F.USER_CODE_BUG, kind="read"),
    # Neighbours that are repaired otherwise.
    row(
        rf"\bFileNotFoundError: \[Errno 2\] No such file or directory: '(?P<program>{PROGRAMS})'",
        _LOG,
        _F.ENTRYPOINT_NOT_FOUND,
        0.93,
        _DATA,
        kind="program",
    ),
    row(
        rf"No such file or directory: '(?:[^']*/)?(?:{TOOLCHAIN})'|CUDA_HOME environment variable is not set"
        rf"|error: command '\S*(?:{TOOLCHAIN})' failed: No such file|(?:^|: )(?:{TOOLCHAIN}): (?:command )?not found",
        _LOG,
        _F.BUILD_TOOLCHAIN_MISSING,
        0.95,
        _DATA,
        _F.ENTRYPOINT_NOT_FOUND,
    ),
    row(
        r"No such file or directory: '[^']*(?:checkpoint|ckpt)[^']*'"
        r"|No such file or directory: '[^']+\.(?:pt|pth|ckpt|safetensors|bin\.index\.json)'",
        _LOG,
        _F.CHECKPOINT_UNUSABLE,
        0.85,
        _DATA,
    ),
)

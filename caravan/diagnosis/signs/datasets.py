"""Signs that a data set is there and is not what its reader expects: columns, types, rows, bytes. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_FORM: Final = _F.DATASET_FORMAT_ERROR
_AFTER: Final = (_F.USER_CODE_BUG, _F.TRAINING_CONFIG_INVALID, _F.INDEX_OUT_OF_RANGE)
_READS: Final = (
    r"packages/(?:datasets|pandas|pyarrow|polars|torchvision|torchaudio|webdataset|soundfile|librosa"
    r"|PIL|lightning_data)/"
    r"|\bjson\.loads?\(|read_(?:csv|json|parquet|table)|load_dataset|\b(?:data|dataset|loader|corpus|reader)\w*\.py\""
)
# How code names one row of its data.
_ROW: Final = (
    r"\b(?:examples?|ex|rows?|samples?|batch|records?|items?|entry|features?|line|obj|datum|d|x|element|instance)\["
)

_COLUMNS: Final = (
    "texts?|sentences?|sentence[12]|sentence_[ab]|questions?|answers?|contexts?|prompts?|completions?|instructions?"
    "|chosen|rejected|messages|conversations?|dialogues?|documents?|article|highlights|summary|labels?|ner_tags|premise"
    "|hypothesis|translation|transcription|passages?|quer(?:y|ies)|pixel_values|input_ids|attention_mask"
)
"""Names that public data sets give their columns."""

DATASET_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"\bCouldn't cast(?: array of type)?|\bbecause column names don't match"
        r"|\bDatasetGenerationCastError\b|\bCastError\b"
        r"|\bAll the data files must have the same columns|\bSchema (?:at index \d+ )?was different"
        r"|\bcolumn names don't match",
        _LOG,
        _FORM,
        0.95,
        *_AFTER,
        kind="schema",
    ),
    row(
        r"\b(?:Arrow(?:Invalid|TypeError|NotImplementedError)|ArrowException): (?!.*\b(?:memory|malloc)\b)"
        r"|\b(?:JSON|CSV) parse error: |\bParquet magic bytes not found|\bCould not open Parquet input source",
        _LOG,
        _FORM,
        0.92,
        *_AFTER,
        kind="rows",
    ),
    row(
        r"\bParserError: Error tokenizing data|\bpandas\S*\.(?:ParserError|EmptyDataError)\b"
        r"|\bInvalid file (?:format|type) for dataset"
        r"|\bFailed to (?:read|parse|load) (?:JSON )?(?:file|line|row)\b.{0,120}(?:[Jj][Ss][Oo][Nn]"
        r"|CSV|csv|parse|decod)"
        r"|^ValueError: (?:Expected object or value|Trailing data)|\bDataLossError: "
        r"|\bcorrupted record at\b|\bError decoding (?:record|example)"
        r"|\bnot a valid (?:jsonl?|csv|parquet|TFRecord)\b",
        _LOG,
        _FORM,
        0.92,
        *_AFTER,
        _F.CHECKPOINT_UNUSABLE,
        kind="rows",
    ),
    row(
        r"\b(?:JSONDecodeError|UnicodeDecodeError|_csv\.Error|csv\.Error)\b",
        _LOG,
        _FORM,
        0.9,
        *_AFTER,
        above=_READS,
        kind="encoding",
    ),
    row(r"\bUnicodeDecodeError: |\bJSONDecodeError: ", _LOG, _FORM, 0.72, _F.USER_CODE_BUG, kind="encoding"),
    row(
        r"\bUnidentifiedImageError: cannot identify image file '?(?P<path>[^'\s>]+)"
        r"|\bimage file is truncated|\bLibsndfileError: Error opening '?(?P<path2>[^':]+)'?: (?:Format|File contains)"
        r"|\bBadZipFile\b|\btarfile\.ReadError\b|\bBadGzipFile\b|\bNot a gzipped file|\bCRC check failed",
        _LOG,
        _FORM,
        0.88,
        *_AFTER,
        kind="encoding",
    ),
    # Columns.
    row(
        r"\b[Cc]olumns? (?:name )?[\[(]?'?(?P<column>\w[\w ./-]*?)'?[\])]? (?:not (?:in"
        r"|found in) the (?:dataset|table|dataframe)|doesn't exist|is not in the dataset"
        r"|(?:is )?missing from the dataset)(?:.*columns?(?: in the dataset)?: (?P<choices>\[[^\]]*\]))?"
        r"|\bOriginal column name (?P<column2>\S+) not in the dataset"
        r"|\bColumn \(?(?P<column3>[\w.-]+)\)? not in table columns"
        r"|\bColumn to remove .*?'(?P<column4>\w+)'.* not in the dataset",
        _LOG,
        _FORM,
        0.95,
        *_AFTER,
        kind="column",
    ),
    row(
        r"`?--?(?P<option>\w*column\w*)[`']? (?:value )?'(?P<column>[^']+)' (?:not found in"
        r"|needs to be one of)(?:.*?(?:one of|columns?)[: ]+(?P<choices>.+))?"
        r"|\bdidn't pass a `dataset_text_field`|\b[Ii]nvalid keys in the example"
        r"|\bNo columns in the dataset match the model's forward method signature"
        r"|\b[Dd]ataset (?:must|should|needs to) (?:contain|have|include)"
        r"|\b(?:[Dd]ataset|[Ee]xample|[Dd]ata(?: file)?|[Rr]ow"
        r"|[Ss]ample) (?:\S+ )?(?:does not (?:contain|have)|is missing|lacks|has no|missing"
        r"|doesn't (?:have|contain)) (?:the |a |an |required |any )*(?:column|key|field|feature)s?\b"
        r"|\b(?:missing|[Rr]equired) (?:required )?(?:columns?|fields?|keys?)\b.{0,60}\b(?:dataset"
        r"|data set|data|example|row)\b",
        _LOG,
        _FORM,
        0.92,
        *_AFTER,
        _F.CLI_ARGS_INVALID,
        kind="column",
    ),
    row(
        r"^KeyError: ['\"](?P<column>[\w .-]+)['\"]",
        _LOG,
        _FORM,
        0.9,
        *_AFTER,
        above=r"packages/(?:datasets|pandas|polars|pyarrow)/|get_loc|\barrow_dataset\.py|formatting\.py",
        kind="column",
    ),
    row(r"^KeyError: ['\"](?P<column>[\w .-]+)['\"]", _LOG, _FORM, 0.82, *_AFTER, above=_ROW, kind="column"),
    row(
        r"\bUnknown split \"?(?P<value>[\w.-]+)\"?\. Should be one of (?P<choices>\[[^\]]*\])"
        r"|\bInvalid (?:key|split): '?(?P<value2>\w+)'?.{0,60}\bsplits?\b",
        _LOG,
        _FORM,
        0.85,
        *_AFTER,
        kind="split",
    ),
    row(
        r"\b[Ll]abel column not found|^KeyError: .*(?:\] not in index|are in the \[(?:columns|index)\])"
        r"|\bwith an? '(?P<column>\w+)' column\b"
        r"|\bFeature: (?P<column2>[\w/]+) .{0,60}is required but could not be found",
        _LOG,
        _FORM,
        0.88,
        *_AFTER,
        kind="column",
    ),
    # Types and shapes of what rows hold.
    row(
        r"\btoo many dimensions 'str'|\bcould not convert string to float: '|\bAll arrays must be of the same length"
        r"|\btext input must (?:be )?of type `?str|\bTextEncodeInput must be Union|\bTextInputSequence must be str"
        r"|\bcannot be converted to a (?:torch\.)?[Tt]ensor.{0,40}(?:object|str)|\bnew\(\): invalid data type 'str'"
        r"|\bCan't convert np\.ndarray of type numpy\.object_|\bargument 'text'.{0,60}TextInputSequence",
        _LOG,
        _FORM,
        0.93,
        *_AFTER,
        kind="feature",
    ),
    row(
        r"\bConversation roles must alternate|\bTemplateError: .*(?:role|message|conversation)"
        r"|\b'(?:messages|conversations)' (?:must|should) be"
        r"|\bUndefinedError: .*\b(?:role|content|message)\b|\bUnsupported (?:dataset|data) format"
        r"|\bUnknown (?:dataset|data) format",
        _LOG,
        _FORM,
        0.92,
        *_AFTER,
        kind="rows",
    ),
    row(
        r"\bnum_samples should be a positive integer value, but got num_samples=0"
        r"|\b[Dd]ataset is empty\b|\bempty dataset\b",
        _LOG,
        _FORM,
        0.75,
        _F.USER_CODE_BUG,
        kind="rows",
    ),
    row(
        r"\bDatasetGenerationError\b"
        r"|\bAn error occurred while generating the dataset",
        _LOG,
        _FORM,
        0.7,
        _F.USER_CODE_BUG,
        kind="rows",
    ),
    row(
        r"\bUndefined dataset (?P<value>\S+) in\b|\b(?i:dataset|split|subset)\b.{0,60}\b(?:is|was|became) empty\b"
        r"|\bCannot find valid samples\b"
        r"|\b(?i:no (?:training )?(?:examples|samples|rows|records|conversations|pairs)\b.{0,40}\b(?:left"
        r"|remain\w*|after))"
        r"|\bNo valid labels\b|\bimages may be unlabelled\b|\bis not valid (?i:jsonl?|csv|parquet|yaml|xml)\b"
        r"|\b(?i:malformed|corrupt(?:ed)?|invalid|unparsable|bad) (?:JSON |data )?(?:line|row|record|sample"
        r"|example|annotation"
        r"|label|entry|image|audio file)s?\b",
        _LOG,
        _FORM,
        0.82,
        *_AFTER,
        kind="rows",
    ),
    row(
        r"\b(?:line|row|record|sample|example|item|entry) (?:no\. ?|number |#)?\d+\b.{0,60}\b(?i:not valid"
        r"|invalid|malformed|missing"
        r"|has no|lacks|without|cannot be parsed|can't be parsed|could not be parsed|unexpected|expected)\b",
        _LOG,
        _FORM,
        0.8,
        *_AFTER,
        kind="rows",
    ),
    row(
        r"^RuntimeError: stack expects each tensor to be equal size"
        r"|^RuntimeError: each element in list of batch should be of"
        r" equal size|\bdefault_collate: batch must contain tensors, .{0,60}; found\b"
        r"|\bTrying to resize storage that is not resizable\b",
        _LOG,
        _FORM,
        0.75,
        _F.USER_CODE_BUG,
        kind="feature",
    ),
    row(
        r"^KeyError: ['\"](?P<column>[\w .-]+)['\"]",
        _LOG,
        _FORM,
        0.78,
        *_AFTER,
        above=r"/(?:data|dataset|datasets|preprocess\w*|processors?|collat\w*|aligner\w*|prompts?|template)\w*(?:/\w+)*\.py\"|\.map\(",
        kind="column",
    ),
    # Without a frame that says where: what columns of texts and examples are usually called.
    row(
        rf"^KeyError: ['\"](?P<column>{_COLUMNS})['\"]\s*$",
        _LOG,
        _FORM,
        0.6,
        kind="column",
    ),
    # A reader that got no row at all had no file.
    row(
        r"\bSchemaInferenceError: Please pass `features` or at least one example",
        _LOG,
        _F.DATA_PATH_MISSING,
        0.88,
        _FORM,
        _F.USER_CODE_BUG,
        kind="read",
    ),
)

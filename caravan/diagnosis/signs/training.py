"""Signs in what a training is told: indices beyond a table, settings that contradict each other. Only data."""

from typing import Final

from caravan.diagnosis.looks import refused
from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_INDEX: Final = _F.INDEX_OUT_OF_RANGE
_CONFIG: Final = _F.TRAINING_CONFIG_INVALID
_BUG: Final = _F.USER_CODE_BUG

_ECHO: Final = (_F.NCCL_TIMEOUT, _F.NCCL_ERROR, _F.PROCESS_CRASH_NATIVE, _BUG)
_RAISED: Final = r"^(?:[\w.]+\.)?(?:\w*Error|\w*Exception): "
_LIBRARY: Final = r"/(?:transformers|trl|peft|accelerate|deepspeed|lightning|pytorch_lightning)/"

INDEX_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"[Aa]ssertion `(?:srcIndex < srcSelectDimSize|.{0,40}\b(?:idx|ind|index)\w* ?[<>]=.{0,60})",
        _LOG,
        _INDEX,
        0.95,
        *_ECHO,
        kind="embedding",
    ),
    row(
        r"Assertion `(?:\w+ >= 0 && )?\w* ?(?:&& )?(?:t|cur_target|target\w*|label\w*)(?:\[\w+\])? (?:>=|<) (?:0"
        r"|n_classes)",
        _LOG,
        _INDEX,
        0.96,
        *_ECHO,
        kind="label",
    ),
    row(r"\bdevice-side assert triggered\b|\bcudaErrorAssert\b|\bCUDA_ERROR_ASSERT\b", _LOG, _INDEX, 0.9, *_ECHO),
    row(
        r"^IndexError: index out of range in self|\bindices\[[\d,]+\] = (?P<value>-?\d+) is not in \[0, (?P<size>"
        r"\d+)\)",
        _LOG,
        _INDEX,
        0.95,
        _BUG,
        kind="embedding",
    ),
    row(
        r"^IndexError: Target (?P<value>-?\d+) is out of bounds"
        r"|[Rr]eceived a label value of (?P<value2>-?\d+) which is outside the valid range",
        _LOG,
        _INDEX,
        0.95,
        _BUG,
        kind="label",
    ),
    row(
        r"^(?:RuntimeError|IndexError): index (?P<value>-?\d+) is out of bounds for dimension \d+ with size (?P<si"
        r"ze>\d+)",
        _LOG,
        _INDEX,
        0.72,
        _BUG,
    ),
    row(
        r"expanded size of the tensor \((?P<value>\d+)\) must match the existing size \((?P<size>\d+)\) at non-sin"
        r"gleton dimension",
        _LOG,
        _INDEX,
        0.72,
        _BUG,
        above=r"modeling_\w+\.py|token_type_ids|position",
        kind="position",
    ),
    row(
        r"(?i:\b(?:sequence|input|prompt|token)\w* (?:length|index|ids?)\b.{0,60}(?:exceeds?|longer than"
        r"|greater than|larger than|>=?).{0,40}\b(?:max_position_embeddings|position embeddings"
        r"|maximum (?:sequence )?length|vocab(?:ulary)?(?: size)?|block[_ ]size))",
        _LOG,
        _INDEX,
        0.85,
        _BUG,
        above=r"^\s*raise |^\s*assert ",
        kind="position",
    ),
    # A probability that is no number trips an assertion too.
    row(
        r"Assertion `(?:input_val >= zero|probability tensor|.{0,40}isnan)",
        _LOG,
        _F.NUMERIC_DIVERGENCE,
        0.93,
        _INDEX,
        kind="nan",
    ),
)

CONFIG_SIGNS: Final[tuple[Sign, ...]] = (
    row(r"--?load_best_model_at_end requires", _LOG, _CONFIG, 0.96, kind="strategy", option="--load_best_model_at_end"),
    row(
        r"You have set `args\.(?P<flag>eval\w*_strategy)` to|Trainer: evaluation requires an eval_dataset"
        r"|requires? an? `?eval_dataset",
        _LOG,
        _CONFIG,
        0.94,
        kind="strategy",
    ),
    row(
        r"tokenizer does not have a padding token|Cannot handle batch sizes > 1 if no padding token"
        r"|pad_token(?:_id)? (?:is|must be) (?:not )?(?:defined|set|None)",
        _LOG,
        _CONFIG,
        0.95,
        kind="padding",
    ),
    row(
        r"^ValueError: expected sequence of length \d+ at dim \d+ \(got \d+\)",
        _LOG,
        _CONFIG,
        0.95,
        _F.DATASET_FORMAT_ERROR,
        _BUG,
        kind="padding",
    ),
    row(
        r"you should probably activate truncation and/or padding",
        _LOG,
        _CONFIG,
        0.9,
        _BUG,
        kind="padding",
    ),
    row(
        r"Check batch related parameters\. .*? (?P<have>\d+) != (?P<want>\d+ \* \d+ \* \d+)"
        r"|Check batch related parameters",
        _LOG,
        _CONFIG,
        0.97,
        _BUG,
        kind="batch",
    ),
    row(r"(?i:\bcorrect the following DeepSpeed config values that mismatch\b)", _LOG, _CONFIG, 0.97, kind="deepspeed"),
    row(
        r"(?i:at most one of (?:`?fp16`?|`?bf16`?) and (?:`?fp16`?|`?bf16`?) can be true"
        r"|\bfp16 and bf16 (?:modes )?(?:cannot|can't|can not) be (?:simultaneously |both )?(?:enabled|set|used"
        r"|true))",
        _LOG,
        _CONFIG,
        0.96,
        kind="precision",
    ),
    row(
        r"\"\w+_?cpu_?\w*\" not implemented for 'Half'|\"LayerNormKernelImpl\" not implemented for 'Half'",
        _LOG,
        _CONFIG,
        0.7,
        _BUG,
        kind="precision",
    ),
    row(
        r"Attempting to unscale FP16 gradients|_amp_foreach_non_finite_check_and_unscale_cuda\" not implemented fo"
        r"r 'BFloat16'",
        _LOG,
        _CONFIG,
        0.9,
        _BUG,
        kind="precision",
    ),
    row(
        r"train_dataset does not implement __len__, max_steps has to be specified"
        r"|max_steps must be set to a positive value",
        _LOG,
        _CONFIG,
        0.96,
        kind="steps",
        option="--max_steps",
    ),
    row(
        r"You are using an untested ZeRO Optimizer"
        r"|zero_allow_untested_optimizer",
        _LOG,
        _CONFIG,
        0.9,
        kind="deepspeed",
    ),
    row(
        r"[Tt]arget modules .{0,300} not found in the base model",
        _LOG,
        _CONFIG,
        0.96,
        kind="lora",
        option="target_modules",
    ),
    row(
        r"cannot perform fine-tuning on purely quantized models|quantization method do(?:es)? not support training",
        _LOG,
        _CONFIG,
        0.94,
        kind="lora",
    ),
    row(
        r"[Cc]ould not find the transformer layer class(?: to wrap)?|Must flatten tensors with uniform (?:dtype"
        r"|`?requires_grad)|FlatParameter requires uniform",
        _LOG,
        _CONFIG,
        0.93,
        _BUG,
        kind="fsdp",
    ),
    row(
        r"Expected to have finished reduction in the prior iteration|Expected to mark a variable ready only once"
        r"|[Mm]odule has parameters that were not used in producing (?:the )?loss",
        _LOG,
        _CONFIG,
        0.85,
        _BUG,
        kind="ddp",
        option="--ddp_find_unused_parameters",
    ),
    row(r"element 0 of tensors does not require grad", _LOG, _CONFIG, 0.75, _BUG, above=_LIBRARY, kind="checkpointing"),
    row(
        rf"{_RAISED}.*(?i:\b(?:must|should|needs? to|has to|have to) be (?:evenly )?(?:divisible by"
        r"|a (?:round )?multiple of|dividable)|\bnot (?:evenly )?divisible by|\bis not a multiple of"
        r"|\bcannot be (?:evenly )?divided)",
        _LOG,
        _CONFIG,
        0.88,
        _BUG,
        kind="divisible",
    ),
    row(
        rf"{_RAISED}.*\b(?P<option>\w*batch_?size\w*)\b.{{0,80}}(?i:must be|should be|cannot be|larger than"
        r"|greater than|exceeds|smaller than|less than|mismatch)"
        r"|^ValueError: batch_size should be a positive integer",
        _LOG,
        _CONFIG,
        0.85,
        _BUG,
        kind="batch",
    ),
    row(
        rf"{_RAISED}.*(?i:\bbatch(?:[ _]size)?\b.{{0,60}}\b(?:larger|greater|bigger|more"
        rf"|exceeds?)\b.{{0,40}}\b(?:data ?set|samples|examples|items|rows|images)\b|\b(?:data ?set|samples"
        rf"|examples)\b.{{0,60}}\b(?:smaller|fewer|less|shorter)\b.{{0,40}}\bbatch)",
        _LOG,
        _CONFIG,
        0.9,
        _BUG,
        kind="batch",
    ),
    row(r"Expected more than 1 value per channel when training", _LOG, _CONFIG, 0.88, _BUG, kind="batch"),
    row(
        r"^ZeroDivisionError\b",
        _LOG,
        _CONFIG,
        0.72,
        _BUG,
        above=r"\blen\([\w.]*(?:loader|_dl|dl|iter|batches)\w*\)|num_batches|steps_per_epoch|n_batches",
        kind="batch",
    ),
    # A loop over batches that had none leaves its counter undefined.
    row(
        r"^UnboundLocalError: .*'(?:step|i|idx|it|iteration|batch|batch_idx|batch_i|n_iter|loss|outputs?|logits)'",
        _LOG,
        _CONFIG,
        0.65,
        kind="batch",
    ),
    row(
        r"Tried to step \d+ times\. The specified number of total steps is|Expected positive integer total_steps",
        _LOG,
        _CONFIG,
        0.85,
        _BUG,
        kind="steps",
    ),
    row(r"chat_template is not set and no template argument|no chat template", _LOG, _CONFIG, 0.82, kind="template"),
    row(r"\bMisconfigurationException: ", _LOG, _CONFIG, 0.82, _BUG, kind="trainer"),
    row(
        rf"{_RAISED}.*(?i:\b(?:cannot|can't|can not|must not|may not|should not) (?:both )?(?:be )?(?:set|used?"
        rf"|specif(?:y|ied)|enabled?|combined?|pass(?:ed)?|given|activated|provided?)\b.{{0,80}}\b(?:with|together"
        r"|and|both|simultaneously|at the same time|when)\b"
        r"|\bmutually exclusive\b|\b(?:is|are) (?:not compatible|incompatible) with\b|\bonly (?:one|makes sense"
        r"|works|supported|valid) .{0,20}\b(?:when|with|if|of)\b"
        r"|\brequires? (?:that )?(?:the )?[`'\"]?-{0,2}\w+[`'\"]? (?:to be|=|set)|\bwithout (?:setting|specifying"
        r"|passing)\b|\bconflicts? with\b|`\w+`.{0,60}\bmust be (?:less|smaller|greater|larger|lower|higher"
        r"|at (?:least|most)|between|in)\b)",
        _LOG,
        _CONFIG,
        0.75,
        _BUG,
        kind="conflict",
    ),
    row(
        r"`metric_for_best_model` training argument is set to '(?P<value>[^']*)', which is not found",
        _LOG,
        _CONFIG,
        0.92,
        _BUG,
        kind="strategy",
        option="--metric_for_best_model",
    ),
    row(
        r"You can(?:'t|not) (?:train|fine-?tune) a model that has been loaded in \d-?bit",
        _LOG,
        _CONFIG,
        0.88,
        _BUG,
        kind="lora",
    ),
    row(
        r"\bValidationError: \d+ validation errors? for \w*(?:Config|Args|Arguments|Settings|Params)\w*",
        _LOG,
        _CONFIG,
        0.85,
        _BUG,
        kind="refused",
    ),
    row(
        rf"{_RAISED}(?!.*\b[A-Z]+_[A-Z_]+\b).*(?i:\b(?:please|you (?:should|must|need to"
        rf"|have to)) (?:also )?(?:specify|set"
        r"|enable|disable|turn (?:on|off)|increase|decrease|reduce|lower"
        r"|raise)\b.{0,20}[`'\" ](?P<option>-{0,2}[a-z]\w*_\w+)\b"
        r"|\b(?:is|are) only (?:valid|supported|available|allowed|applicable|compatible)\b"
        r"|`\w+` (?:cannot|can't|must not|should not) be set\b|\btoo (?:small|large|short|long|few|many|high"
        r"|low) (?:for|to)\b)",
        _LOG,
        _CONFIG,
        0.72,
        _BUG,
        kind="refused",
    ),
    row(
        rf"{_RAISED}.*\b(?P<option>(?:[a-z]\w*_)?(?:steps|length|size|len|tokens|epochs|ratio|rank|layers|heads"
        rf"|workers"
        r"|batches|stage|accum\w*|parallel\w*))\b.{0,40}(?i:\b(?:larger|greater|smaller|less|more|fewer|bigger"
        r"|lower|higher"
        r"|longer|shorter) than\b|\bexceeds?\b|\bmust be (?:positive|at least|between|non-?zero|>|<|a multiple))",
        _LOG,
        _CONFIG,
        0.72,
        _BUG,
        kind="conflict",
    ),
    row(refused, _LOG, _CONFIG, 0.66, _BUG, kind="refused"),
)

TRAINING_SIGNS: Final[tuple[Sign, ...]] = (*INDEX_SIGNS, *CONFIG_SIGNS)

"""Decoders whose MLP has two matrices: GPT-2 and its kin, Pythia, OPT, BLOOM, Falcon, MPT, Phi 1 and 2, code models.

Source: the `config.json` of each on its hub page. Falcon's and MPT's output matrix is the embedding, as transformers
loads them.
"""

from itertools import chain
from typing import Final

from caravan.planning.known.rows import Known, rows

ROWS: Final[tuple[Known, ...]] = tuple(
    chain(
        rows(
            "gpt2",
            ("gpt2 gpt2-small", 0.124, 768, 12, 12, 12, 3072, 50257),
            ("gpt2-medium", 0.355, 1024, 24, 16, 16, 4096, 50257),
            ("gpt2-large", 0.774, 1280, 36, 20, 20, 5120, 50257),
            ("gpt2-xl", 1.558, 1600, 48, 25, 25, 6400, 50257),
            ("distilgpt2", 0.0819, 768, 6, 12, 12, 3072, 50257),
            gated=False,
            tied=True,
            positions=1024,
        ),
        rows(
            "gpt_neo",
            ("gpt-neo-125m", 0.125, 768, 12, 12, 12, 3072, 50257),
            ("gpt-neo-1.3b", 1.316, 2048, 24, 16, 16, 8192, 50257),
            ("gpt-neo-2.7b", 2.651, 2560, 32, 20, 20, 10240, 50257),
            gated=False,
            tied=True,
            positions=2048,
        ),
        rows("gptj", ("gpt-j-6b", 6.05, 4096, 28, 16, 16, 16384, 50400), gated=False, positions=2048),
        rows(
            "gpt_neox",
            ("gpt-neox-20b", 20.555, 6144, 44, 64, 64, 24576, 50432),
            ("pythia-70m", 0.0704, 512, 6, 8, 8, 2048, 50304),
            ("pythia-160m", 0.1623, 768, 12, 12, 12, 3072, 50304),
            ("pythia-410m", 0.4053, 1024, 24, 16, 16, 4096, 50304),
            ("pythia-1b", 1.0118, 2048, 16, 8, 8, 8192, 50304),
            ("pythia-1.4b", 1.4146, 2048, 24, 16, 16, 8192, 50304),
            ("pythia-2.8b dolly-v2-3b", 2.7752, 2560, 32, 32, 32, 10240, 50304),
            ("pythia-6.9b dolly-v2-7b", 6.8573, 4096, 32, 32, 32, 16384, 50432),
            ("pythia-12b dolly-v2-12b", 11.8461, 5120, 36, 40, 40, 20480, 50688),
            gated=False,
            positions=2048,
        ),
        rows(
            "gpt_neox",
            ("stablelm-base-alpha-3b stablelm-tuned-alpha-3b", 3.638, 4096, 16, 32, 32, 16384, 50688),
            ("stablelm-base-alpha-7b stablelm-tuned-alpha-7b", 7.869, 6144, 16, 48, 48, 24576, 50432),
            gated=False,
            positions=4096,
        ),
        rows(
            "opt",
            ("opt-125m", 0.1252, 768, 12, 12, 12, 3072, 50272),
            ("opt-1.3b", 1.3158, 2048, 24, 32, 32, 8192, 50272),
            ("opt-2.7b", 2.6516, 2560, 32, 32, 32, 10240, 50272),
            ("opt-6.7b", 6.6585, 4096, 32, 32, 32, 16384, 50272),
            ("opt-13b", 12.8535, 5120, 40, 40, 40, 20480, 50272),
            ("opt-30b", 29.9749, 7168, 48, 56, 56, 28672, 50272),
            ("opt-66b", 65.7179, 9216, 64, 72, 72, 36864, 50272),
            gated=False,
            tied=True,
            positions=2048,
        ),
        rows(
            "bloom",
            ("bloom-560m bloomz-560m", 0.5592, 1024, 24, 16, 16, 4096, 250880),
            ("bloom-1b1 bloomz-1b1", 1.0653, 1536, 24, 16, 16, 6144, 250880),
            ("bloom-1b7 bloomz-1b7", 1.7224, 2048, 24, 16, 16, 8192, 250880),
            ("bloom-3b bloomz-3b", 3.0026, 2560, 30, 32, 32, 10240, 250880),
            ("bloom-7b1 bloomz-7b1 bloomz-7b1-mt", 7.069, 4096, 30, 32, 32, 16384, 250880),
            ("bloom bloomz", 176.247, 14336, 70, 112, 112, 57344, 250880),
            gated=False,
            tied=True,
            positions=2048,
        ),
        rows(
            "falcon",
            ("falcon-7b", 6.922, 4544, 32, 71, 1, 18176, 65024),
            ("falcon-40b", 41.303, 8192, 60, 128, 8, 32768, 65024),
            ("falcon-180b", 178.55, 14848, 80, 232, 8, 59392, 65024),
            head_dim=64,
            gated=False,
            tied=True,
            positions=2048,
        ),
        rows(
            "mpt",
            ("mpt-7b", 6.649, 4096, 32, 32, 32, 16384, 50432),
            ("mpt-30b", 29.958, 7168, 48, 64, 64, 28672, 50432),
            gated=False,
            tied=True,
            positions=2048,
        ),
        rows(
            "phi",
            ("phi-1 phi-1-5 phi-1.5", 1.418, 2048, 24, 32, 32, 8192, 51200),
            ("phi-2", 2.78, 2560, 32, 32, 32, 10240, 51200),
            gated=False,
            positions=2048,
        ),
        rows(
            "gpt_bigcode",
            ("santacoder gpt-bigcode-santacoder", 1.125, 2048, 24, 16, 1, 8192, 49280),
            gated=False,
            tied=True,
            positions=2048,
        ),
        rows(
            "gpt_bigcode",
            ("starcoderbase-1b", 1.1372, 2048, 24, 16, 1, 8192, 49152),
            ("starcoderbase-3b", 3.0431, 2816, 36, 22, 1, 11264, 49152),
            ("starcoderbase-7b", 7.3274, 4096, 42, 32, 1, 16384, 49152),
            ("starcoder starcoderbase", 15.5175, 6144, 40, 48, 1, 24576, 49152),
            gated=False,
            tied=True,
            positions=8192,
        ),
        rows(
            "starcoder2",
            ("starcoder2-3b", 3.0304, 3072, 30, 24, 2, 12288, 49152),
            ("starcoder2-7b", 7.1739, 4608, 32, 36, 4, 18432, 49152),
            gated=False,
            tied=True,
            positions=16384,
        ),
        rows("starcoder2", ("starcoder2-15b", 15.9576, 6144, 40, 48, 4, 24576, 49152), gated=False, positions=16384),
        rows(
            "codegen",
            ("codegen-350m", 0.3567, 1024, 20, 16, 16, 4096, 51200),
            ("codegen-2b", 2.7791, 2560, 32, 32, 32, 10240, 51200),
            ("codegen-6b", 7.069, 4096, 33, 16, 16, 16384, 51200),
            ("codegen-16b", 16.0303, 6144, 34, 24, 24, 24576, 51200),
            gated=False,
            positions=2048,
        ),
    )
)

"""Llama, Mistral and models of their build. Source: the `config.json` of each on its hub page."""

from itertools import chain
from typing import Final

from caravan.planning.known.rows import Known, rows

ROWS: Final[tuple[Known, ...]] = tuple(
    chain(
        rows(
            "llama",
            ("llama-7b alpaca-7b", 6.738, 4096, 32, 32, 32, 11008, 32000),
            ("llama-13b alpaca-13b", 13.016, 5120, 40, 40, 40, 13824, 32000),
            ("llama-30b llama-33b vicuna-33b", 32.529, 6656, 60, 52, 52, 17920, 32000),
            ("llama-65b", 65.286, 8192, 80, 64, 64, 22016, 32000),
            ("tinyllama-1.1b", 1.1, 2048, 22, 32, 4, 5632, 32000),
            ("open-llama-3b", 3.426, 3200, 26, 32, 32, 8640, 32000),
            positions=2048,
        ),
        rows(
            "llama",
            ("llama-2-7b vicuna-7b", 6.738, 4096, 32, 32, 32, 11008, 32000),
            ("llama-2-13b vicuna-13b", 13.016, 5120, 40, 40, 40, 13824, 32000),
            ("llama-2-70b", 68.977, 8192, 80, 64, 8, 28672, 32000),
            ("sheared-llama-1.3b", 1.345, 2048, 24, 16, 16, 5504, 32000),
            ("sheared-llama-2.7b", 2.702, 2560, 32, 20, 20, 6912, 32000),
            ("solar-10.7b", 10.732, 4096, 48, 32, 8, 14336, 32000),
            positions=4096,
        ),
        rows(
            "llama",
            ("codellama-7b", 6.739, 4096, 32, 32, 32, 11008, 32016),
            ("codellama-13b", 13.016, 5120, 40, 40, 40, 13824, 32016),
            ("codellama-34b", 33.744, 8192, 48, 64, 8, 22016, 32000),
            ("codellama-70b", 68.977, 8192, 80, 64, 8, 28672, 32016),
            positions=16384,
        ),
        rows(
            "llama",
            ("llama-3-8b", 8.03, 4096, 32, 32, 8, 14336, 128256),
            ("llama-3-70b", 70.554, 8192, 80, 64, 8, 28672, 128256),
            positions=8192,
        ),
        rows(
            "llama",
            ("llama-3.1-8b deepseek-r1-distill-llama-8b", 8.03, 4096, 32, 32, 8, 14336, 128256),
            ("llama-3.1-70b llama-3.3-70b deepseek-r1-distill-llama-70b", 70.554, 8192, 80, 64, 8, 28672, 128256),
            ("llama-3.1-405b", 405.853, 16384, 126, 128, 8, 53248, 128256),
            positions=131072,
        ),
        rows(
            "llama",
            ("llama-3.2-1b", 1.236, 2048, 16, 32, 8, 8192, 128256),
            ("llama-3.2-3b", 3.213, 3072, 28, 24, 8, 8192, 128256),
            positions=131072,
            tied=True,
        ),
        rows(
            "llama4",
            ("llama-4-scout-17b-16e llama-4-scout", 107.77, 5120, 48, 40, 8, 16384, 202048),
            positions=10_485_760,
            experts=16,
            experts_per_token=1,
            moe_intermediate=8192,
            shared_intermediate=8192,
        ),
        rows(
            "llama4",
            ("llama-4-maverick-17b-128e llama-4-maverick", 400.71, 5120, 48, 40, 8, 16384, 202048),
            positions=1_048_576,
            experts=128,
            experts_per_token=1,
            moe_intermediate=8192,
            shared_intermediate=8192,
            dense_layers=24,
        ),
        rows(
            "llama",
            ("smollm-135m smollm2-135m", 0.1345, 576, 30, 9, 3, 1536, 49152),
            ("smollm-360m smollm2-360m", 0.3618, 960, 32, 15, 5, 2560, 49152),
            ("smollm-1.7b smollm2-1.7b", 1.711, 2048, 24, 32, 32, 8192, 49152),
            positions=8192,
            tied=True,
        ),
        rows("smollm3", ("smollm3-3b", 3.075, 2048, 36, 16, 4, 11008, 128256), positions=65536, tied=True),
        rows(
            "llama",
            ("yi-6b yi-1.5-6b", 6.061, 4096, 32, 32, 4, 11008, 64000),
            ("yi-9b yi-1.5-9b", 8.829, 4096, 48, 32, 4, 11008, 64000),
            ("yi-34b yi-1.5-34b", 34.389, 7168, 60, 56, 8, 20480, 64000),
            positions=4096,
        ),
        rows(
            "mistral",
            ("mistral-7b zephyr-7b", 7.242, 4096, 32, 32, 8, 14336, 32000),
            ("mistral-7b-v0.3 mistral-7b-instruct-v0.3 mathstral-7b", 7.248, 4096, 32, 32, 8, 14336, 32768),
            ("codestral-22b mistral-small-22b", 22.247, 6144, 56, 48, 8, 16384, 32768),
            positions=32768,
        ),
        rows(
            "mistral",
            ("mistral-nemo mistral-nemo-12b", 12.248, 5120, 40, 32, 8, 14336, 131072),
            ("mistral-small-24b", 23.572, 5120, 40, 32, 8, 32768, 131072),
            ("ministral-8b", 8.02, 4096, 36, 32, 8, 12288, 131072),
            ("mistral-large", 122.61, 12288, 88, 96, 8, 28672, 32768),
            head_dim=128,
            positions=32768,
        ),
        rows(
            "mixtral",
            ("mixtral-8x7b", 46.703, 4096, 32, 32, 8, 14336, 32000),
            experts=8,
            experts_per_token=2,
            moe_intermediate=14336,
            positions=32768,
        ),
        rows(
            "mixtral",
            ("mixtral-8x22b", 140.62, 6144, 56, 48, 8, 16384, 32000),
            experts=8,
            experts_per_token=2,
            moe_intermediate=16384,
            positions=65536,
        ),
    )
)

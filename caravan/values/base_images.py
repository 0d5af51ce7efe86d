"""The images that jobs may start from where neither settings nor a profile name any."""

from caravan.values.base_image import BaseImage

# Tags of the official repositories (pytorch/pytorch and python on docker's hub); versions as their tags and
# Dockerfiles say them.
BASE_IMAGES = (
    *(
        BaseImage(
            image=f"pytorch/pytorch:{torch}-cuda{cuda}-cudnn{cudnn}-{kind}",
            torch=torch,
            cuda=cuda,
            python=python,
            tools=kind == "devel",
            nvcc=kind == "devel",
        )
        for torch, cuda, cudnn, python in (
            ("2.8.0", "12.8", 9, "3.11"),
            ("2.8.0", "12.6", 9, "3.11"),
            ("2.7.1", "12.6", 9, "3.11"),
            ("2.6.0", "12.4", 9, "3.11"),
            ("2.5.1", "12.4", 9, "3.11"),
            ("2.5.1", "12.1", 9, "3.11"),
            ("2.4.1", "12.1", 9, "3.11"),
            ("2.3.1", "12.1", 8, "3.10"),
            ("2.2.2", "12.1", 8, "3.10"),
            ("2.1.2", "12.1", 8, "3.10"),
            ("2.1.2", "11.8", 8, "3.10"),
            ("2.0.1", "11.7", 8, "3.10"),
        )
        for kind in ("runtime", "devel")
    ),
    *(BaseImage(image=f"python:{v}-bookworm", python=v, tools=True) for v in ("3.11", "3.12", "3.10", "3.13", "3.9")),
)
"""Where jobs start from that nothing else says: frameworks with CUDA, and plain Python, for which pip brings CUDA."""

# The agent as an image: docs/image.md says how it is built and run.
#   make image
#   docker run --rm -it --init --read-only --tmpfs /tmp -v caravan-state:/state -v "$PWD/repo:/repo:ro" \
#     -e NOMAD_ADDR -e NOMAD_TOKEN caravan --prompt "Fine-tune it with LoRA" --codebase-path /repo
# BASE may name a mirror, and a digest: python:3.11-slim@sha256:...
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN python -m venv /venv && /venv/bin/python -m pip install --no-cache-dir -r requirements.txt -c constraints.txt
COPY *.py LICENSE ./
COPY templates templates
COPY caravan caravan
# The version is stated in caravan/__init__.py alone; a label that says another one is a mistake of the build.
ARG VERSION=
RUN found="$(/venv/bin/python -c 'import caravan; print(caravan.__version__)')" \
 && { [ -z "$VERSION" ] || [ "$VERSION" = "$found" ] || { echo "VERSION is $VERSION, the code's is $found"; exit 1; }; } \
 # Nothing can be compiled later: the root file system is read only. By content, since copying changes times.
 && /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM ${BASE}
# Versions of Debian's packages, as apt takes them (`=1:2.39.5-0+deb12u2`); unset: the newest of the base's release.
ARG GIT=
ARG SSH=
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates "git${GIT}" "openssh-client${SSH}" \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
 && useradd --create-home --uid 1000 --user-group caravan \
 && install -d -o caravan -g caravan -m 0700 /state
COPY --from=build /venv /venv
COPY --from=build /app /app
ARG VERSION=
ARG REVISION=
ARG BASE
LABEL org.opencontainers.image.title="Caravan" \
      org.opencontainers.image.description="Brings a fine-tune to its end on a Nomad GPU cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
WORKDIR /app
# All that is written goes to /state (a volume), and for a moment to /tmp (a tmpfs).
ENV PATH=/venv/bin:$PATH CARAVAN_HOME=/state PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /state
USER 1000:1000
# A command that ends, no service: whether it is well is its exit code. What it watches has time limits of its own.
HEALTHCHECK NONE
ENTRYPOINT ["/venv/bin/python", "/app/main.py"]

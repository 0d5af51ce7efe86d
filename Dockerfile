# The agent as an image. It needs a state directory and the address of a Nomad cluster:
#   docker run --rm -it -v caravan-state:/state -v "$PWD/repo:/repo:ro" -e NOMAD_ADDR -e NOMAD_TOKEN caravan \
#     --prompt "Fine-tune it with LoRA" --codebase-path /repo
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN python -m venv /venv && /venv/bin/python -m pip install --no-cache-dir -r requirements.txt -c constraints.txt

FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 caravan && install -d -o caravan -m 0700 /state
COPY --from=build /venv /venv
WORKDIR /app
COPY *.py ./
COPY templates templates
COPY caravan caravan
ENV PATH=/venv/bin:$PATH CARAVAN_HOME=/state PYTHONDONTWRITEBYTECODE=1
USER caravan
ENTRYPOINT ["python", "/app/main.py"]

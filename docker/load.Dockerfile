# The image of load tests (docs/image.md): Locust and the scenarios, nothing of the application. The context is the
# repository's root; what of it comes along is in .dockerignore.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS builder
WORKDIR /app
COPY requirements/load.txt requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python --disable-pip-version-check --cache-dir /var/cache/pip \
    install --quiet --no-compile --require-hashes --only-binary :all: -r requirements/load.txt
COPY loadtest loadtest
RUN python -m compileall -q --invalidation-mode unchecked-hash loadtest /opt/venv/lib \
 && chmod -R go=rX loadtest


FROM ${PYTHON_IMAGE} AS runtime
WORKDIR /app
# As in the application's image: nothing is left that could install anything.
RUN find / -xdev \( -path '*-packages/pip' -o -path '*-packages/pip-*' -o -path '*/ensurepip' -o -path '*/bin/pip*' \
    -o -path /usr/share/python-wheels \) -prune -exec rm -rf {} +
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /app/loadtest loadtest
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Carillon's load tests" \
      org.opencontainers.image.description="Locust users that judge a Carillon deployment by its wire protocol" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT []
CMD ["python", "-m", "locust", "--help"]

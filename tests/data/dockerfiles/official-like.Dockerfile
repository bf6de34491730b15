# syntax=docker/dockerfile:1
#
# NOTE: GENERATED
#
ARG BASE=bookworm
FROM debian:${BASE}-slim AS build
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
ENV LANG=C.UTF-8 GPG_KEY=A0 VERSION=3.13.1
RUN set -eux; \
	apt-get update; \
	apt-get install -y --no-install-recommends \
		ca-certificates \
# a note
		tzdata \
	; \
	rm -rf /var/lib/apt/lists/*; \
	\
	for src in a b; do \
		dst="$(echo "$src" | tr -d 3)"; \
		[ ! -e "/usr/local/bin/$dst" ]; \
	done
WORKDIR /src
COPY --chown=nobody:nogroup ["go.mod", "go.sum", "./"]
RUN --mount=type=cache,target=/root/.cache/go-build,sharing=locked \
    --mount=type=bind,source=.,target=. \
    go build -ldflags="-X main.version=${VERSION}" -o /out/app ./cmd/...
FROM scratch
COPY --from=build --link /out/app /app
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=3s CMD ["/app", "-health"]
EXPOSE 80/tcp 443/udp
ENTRYPOINT ["/app"]
CMD ["-serve"]

FROM a
RUN --mount="type=cache,\"target=/a,b\"" x
COPY --chown='a b' --chmod=\"7 a b
RUN --network="none x

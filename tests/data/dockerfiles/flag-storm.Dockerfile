FROM --platform=a --platform=b c
COPY -- --chown=1 a b
RUN --mount= --mount="" --mount=, --mount='type="a' -- x
COPY --
RUN ---x
COPY --=x a b

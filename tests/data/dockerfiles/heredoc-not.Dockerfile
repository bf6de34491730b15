FROM a
RUN << EOF
RUN <<<EOF
RUN <<-
RUN <<''
RUN $((1<<2)) <<
RUN 'a <<EOF

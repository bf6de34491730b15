FROM a
RUN <<EOF
echo a
EOF
COPY <<-X /x
		x
	X

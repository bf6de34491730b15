FROM a
COPY <<A <<A <<-A <<'A' 3<<A <<"A" /d/
1
A
2
A
	3
	A
4
A
5
A
6
A

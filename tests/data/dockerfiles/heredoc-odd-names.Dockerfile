FROM a
RUN <<$X <<${Y} <<"a b" <<\Z <<E'O'F
$X
$Y
a b
Z
EOF

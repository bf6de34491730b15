FROM a AS é
FROM a AS a--b..c__d
ARG é=1 1a=2 =3
ENV $x=1 ${y}=2 'a b'=3
LABEL ""=1

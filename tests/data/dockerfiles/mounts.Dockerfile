FROM a
RUN --mount=type=cache,target=/a,sharing=locked,mode=0777,uid=1,gid=2,id=x,from=b,source=c --mount=type=secret,id=a,env=B,required --mount=type=ssh --mount=type=tmpfs,target=/t,size=99999999999999999999g --mount=dst=../../..,rw=0 x

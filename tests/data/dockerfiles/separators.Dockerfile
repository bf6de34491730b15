FROM a RUN bENV x=1
　RUN c

FROM a
CMD ["\ud800"]
CMD ["\udc80", "\ud83d\ude00"]
ENTRYPOINT ["a"	,"b"]
SHELL [""]
VOLUME ["a"]x
COPY ["a"

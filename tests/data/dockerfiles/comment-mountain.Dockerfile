#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
FROM a \
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
# c
 AS b

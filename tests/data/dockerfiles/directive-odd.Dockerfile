#	escape	=	`	
#syntax==
# =x
# escape
#escape=
FROM a

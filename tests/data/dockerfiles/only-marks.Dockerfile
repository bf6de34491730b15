﻿# escape=`

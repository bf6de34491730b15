FROM a
CMD [1e999]
CMD [-]
CMD [true]
CMD [{}]
CMD ["a", null]

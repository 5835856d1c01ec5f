extension TensorEntry {
    /// The tensor cut as its own grid cuts it: the ranges at which reading it costs least.
    public var blockRanges: [Range<UInt64>] {
        guard let grid = Grid(dtype: dtype, shape: shape) else { return [] }
        return (0..<grid.count).map(grid.range)
    }
}

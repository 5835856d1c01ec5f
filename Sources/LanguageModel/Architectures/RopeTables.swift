/// Tables of the ropes of a model's layers: one for each that differs.
struct RopeTables {
    private var known: [(rope: Rope, table: RopeTable)] = []

    mutating func table(_ rope: Rope, length: Int) -> RopeTable {
        if let known = known.first(where: { $0.rope == rope }) { return known.table }
        let table = RopeTable(rope, length: length)
        known.append((rope, table))
        return table
    }
}
